# SPDX-License-Identifier: Apache-2.0
"""How files spell the keys of Depth Anything's weights: libraries renamed them over the years."""

from collections.abc import Iterable
from dataclasses import dataclass

PREFIX = 'backbone.base_model.model.'  # what peft puts before the backbone's names
# transformers 5 -> 4
OLD_NAMES = {
    'attention.q_proj.': 'attention.attention.query.',
    'attention.k_proj.': 'attention.attention.key.',
    'attention.v_proj.': 'attention.attention.value.',
    'attention.o_proj.': 'attention.output.dense.',
}
MAGNITUDE = 'lora_magnitude_vector.default'


@dataclass(frozen=True)
class Spelling:
    """
    How a depth file spells its keys.

    :param module: each begins with `module.` (DataParallel).
    :param peft: the backbone's begin with peft's prefix.
    :param old: attention is named as transformers 4 did.
    :param adapters: 'dora', 'lora' or 'none'.
    :param short: DoRA magnitudes end in `.default`, else in `.default.weight`.
    """

    module: bool
    peft: bool
    old: bool
    adapters: str
    short: bool

    @classmethod
    def of(cls, names: Iterable[str]) -> 'Spelling':
        """Read it off a file's keys; keys that are spelled otherwise are found by the check."""
        names = list(names)
        magnitudes = [name for name in names if 'lora_magnitude_vector' in name]
        lora = any('lora_' in name for name in names)
        return cls(
            module=sum(name.startswith('module.') for name in names) > len(names) / 2,
            peft=any(PREFIX in name for name in names),
            old=any(old in name for name in names for old in OLD_NAMES.values()),
            adapters='dora' if magnitudes else 'lora' if lora else 'none',
            short=sum(name.endswith(MAGNITUDE) for name in magnitudes) > len(magnitudes) / 2,
        )

    def spell(self, name: str) -> str:
        """The file's name of what our network calls so."""
        if self.peft and not name.startswith(PREFIX):
            name = name.replace('backbone.', PREFIX, 1)
        if not self.peft:
            name = name.replace(PREFIX, 'backbone.', 1)
        if self.old:
            for now, before in OLD_NAMES.items():
                name = name.replace(now, before)
        if self.short:
            name = name.replace(f'{MAGNITUDE}.weight', MAGNITUDE)
        return f'module.{name}' if self.module else name
