# SPDX-License-Identifier: Apache-2.0
"""
Numbers of the summary as HTML: each bears its own key and its unrounded value, so that none can
drift.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

NONE = '–'


class Figures:
    """Writes values of a summary."""

    def __init__(self, summary: dict[str, Any]) -> None:
        """Keep the summary that all numbers come from."""
        self.summary = summary

    def value(self, key: str) -> Any:
        """The value under a dotted key; None where it, or anything on the way, is not there."""
        found: Any = self.summary
        for name in key.split('.'):
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def number(self, key: str, form: str = 'd', unit: str = '', factor: float = 1.0) -> str:
        """
        A number.

        :param key: dotted.
        :param form: Python's format of what is shown.
        :param unit: written after it.
        :param factor: shown = value x factor (100 for per cent).
        """
        value = self.value(key)
        if value is None:
            return f'<data class="none" data-key="{escape(key)}" value="">{NONE}</data>'
        shown = f'{value * factor if factor != 1.0 else value:{form}}'.replace('-', '−')
        unit = f'<span class="unit">{escape(unit)}</span>' if unit else ''
        return f'<data data-key="{escape(key)}" value="{value!r}">{shown}</data>{unit}'

    def percent(self, key: str, form: str = '.1f') -> str:
        """A share as per cent."""
        return self.number(key, form, '%', 100.0)

    def text(self, key: str, otherwise: str = 'not stated') -> str:
        """A text, escaped."""
        value = self.value(key)
        return escape(str(value)) if value else f'<span class="none">{escape(otherwise)}</span>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = '', style: str = ''
) -> str:
    """
    A table of HTML cells; the first of each row is its head.

    :param caption: HTML above it, that does not scroll with it.
    :param style: CSS class.
    """
    heads = ''.join(f'<th scope="col">{cell}</th>' for cell in head)
    body = ''.join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    note = f'<p class="note">{caption}</p>' if caption else ''
    return (
        f'{note}<div class="scroll"><table class="{style}"><thead><tr>{heads}</tr></thead>'
        f'<tbody>{body}</tbody></table></div>'
    )
