# SPDX-License-Identifier: Apache-2.0
"""Says the same thing now and then, not sixty times a second."""

import re
import threading

# what changes from picture to picture: quoted words, and numbers as Python writes them
VARIES = re.compile(r"'[^']*'|\"[^\"]*\"|-?(?:\d+(?:\.\d*)?(?:e[-+]?\d+)?|\b(?:nan|inf)\b)")
PAUSE_S = 5.0
ROOM = 64


def kind(sentence: str) -> str:
    """A sentence without what varies in it."""
    return VARIES.sub('#', sentence)


class Complaints:
    """
    Decides which sentences deserve a line in the log; safe between threads.

    Two sentences are the same one when they differ in numbers and quoted words only.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # sentence without what varies -> (when it was said last [s], how often held back since)
        self._said: dict[str, tuple[float, int]] = {}

    def line(self, sentence: str, now_s: float) -> str | None:
        """
        Take one sentence.

        :param sentence: what somebody wants to say.
        :param now_s: a steady clock [s].
        :return: the line to log; None where the same was said less than `PAUSE_S` ago.
        """
        key = kind(sentence)
        with self._lock:
            said_s, held_back = self._said.pop(key, (float('-inf'), 0))
            due = now_s - said_s >= PAUSE_S
            self._said[key] = (now_s, 0) if due else (said_s, held_back + 1)
            if len(self._said) > ROOM:
                del self._said[next(iter(self._said))]  # the one not heard for longest
        if not due:
            return None
        return f'{sentence} (and {held_back} more like it)' if held_back else sentence
