# SPDX-License-Identifier: Apache-2.0
"""One line of the doctor."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """
    What the doctor found, and what to run.

    :param state: 'ok', 'note' (works, could be better) or 'bad' (does not work).
    :param text: what was found.
    :param cure: what to run; '' when nothing.
    """

    state: str
    text: str
    cure: str = ''

    def __str__(self) -> str:
        """As it is printed: the cure below, indented."""
        return f'{self.state:4}  {self.text}' + (f'\n      run: {self.cure}' if self.cure else '')
