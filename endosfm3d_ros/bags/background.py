# SPDX-License-Identifier: Apache-2.0
"""Write a bag in a thread of its own, so that compression and the disk never hold up receiving."""

import queue
import threading
from types import TracebackType
from typing import NamedTuple, Self

from endosfm3d_ros.bags.recording import McapWriter

WAITING_BYTES = 256 * 1024 * 1024
"""Messages that were received and not yet written may take this much."""


class Message(NamedTuple):
    """A received message on its way to the disk; the fields are those of `McapWriter.write`."""

    topic: str
    type_name: str
    raw: bytes
    log_time_ns: int
    publish_time_ns: int
    sequence: int


class BackgroundWriter:
    """
    Hands messages to a McapWriter's thread; use it in a `with` block inside the writer's own.

    :ivar error: what stopped the writing (a full disk); None while all is well.
    """

    def __init__(self, writer: McapWriter, waiting_bytes: int = WAITING_BYTES) -> None:
        """
        Prepare the thread; the `with` block starts it.

        :param writer: declare topics there before their first message comes here.
        :param waiting_bytes: memory for messages that wait [bytes].
        """
        self.error: ValueError | None = None
        self._writer, self._room = writer, waiting_bytes
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._write, name='bag', daemon=True)

    def put(self, message: Message) -> bool:
        """Take a message; False when there is no room for it or writing has stopped."""
        with self._lock:
            if self.error or len(message.raw) > self._room:
                return False
            self._room -= len(message.raw)
        self._messages.put(message)
        return True

    def __enter__(self) -> Self:
        """Start writing."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what waits and end; raise what stopped the writing early."""
        self._messages.put(None)
        self._thread.join()
        if self.error and error is None:
            raise self.error

    def _write(self) -> None:
        while (message := self._messages.get()) is not None:
            if self.error is None:
                try:
                    self._writer.write(*message)
                except ValueError as error:
                    self.error = error
            with self._lock:
                self._room += len(message.raw)
