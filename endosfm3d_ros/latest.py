# SPDX-License-Identifier: Apache-2.0
"""
A one-place mailbox between a callback and a worker: the newest item wins, what it replaced is
counted.
"""

import threading
from typing import Generic, TypeVar

Item = TypeVar('Item')


class Latest(Generic[Item]):
    """
    Put from any thread, take from one; nobody ever waits for the taker.

    `received` counts what was put in, `dropped` what a newer item replaced before its turn.
    """

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._item: Item | None = None
        self._closed = False
        self.received = self.dropped = 0

    def put(self, item: Item) -> None:
        """Leave an item; one that was not taken yet is dropped and counted."""
        with self._arrived:
            self.received += 1
            if self._item is not None:
                self.dropped += 1
            self._item = item
            self._arrived.notify()

    def take(self) -> Item | None:
        """Wait for an item and take it; None once the mailbox is closed."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> None:
        """Wake the taker for good; an item still inside is given up."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
