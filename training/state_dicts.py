# SPDX-License-Identifier: Apache-2.0
"""Weights that strangers wrote: read without running anything, and held against what is needed."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

# What torch's reader of weights says of files that are none.
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError,
    AttributeError, AssertionError, safetensors.SafetensorError,
)  # fmt: skip
_WANTED = re.compile(r'(?:GLOBAL|class|function|global) `?([\w.]+\.[\w.]+)')


class WeightsError(ValueError):
    """Weights that can't be used: what was found, what was needed, what mends it."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """
    Read a state dict; nothing in the file is ever run.

    :param path: a .pth that torch saved, or .safetensors.
    :return: tensors by name, floating ones in single precision, all finite.
    :raises WeightsError: there is no file, or it holds anything else.
    """
    if not path.is_file():
        raise WeightsError(f'{path}: no such file; needed a state dict that torch.save wrote')
    try:
        if path.suffix == '.safetensors':
            found = load_file(path)
        else:
            found = torch.load(path, map_location='cpu', weights_only=True)
    except OSError as error:
        raise WeightsError(f'{path}: {error.strerror or error}') from error
    except _UNREADABLE as error:
        raise WeightsError(_why(path, error)) from error
    if not isinstance(found, Mapping) or not found:
        raise WeightsError(f'{path}: holds a {type(found).__name__}, needed a state dict')
    tensors = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f'{path}: {name!r} is a {type(value).__name__}, needed a tensor: save the '
                "network's plain state_dict()"
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise WeightsError(f'{path}: {name} holds values that are not finite')
        tensors[name] = value.float() if value.is_floating_point() else value
    return tensors


def check_state_dict(
    path: Path, found: Mapping[str, Tensor], needed: Mapping[str, tuple[int, ...]]
) -> None:
    """
    Hold the keys and shapes of a file against what is needed; no key may lack, none be left over.

    :param path: for the message.
    :param found: tensors by the file's own names.
    :param needed: shapes by the same names.
    :raises WeightsError: naming the first that is wrong of each kind.
    """
    missing = sorted(set(needed) - set(found))
    extra = sorted(set(found) - set(needed))
    misshapen = [
        f'{name} is {tuple(found[name].shape)}, needed {tuple(shape)}'
        for name, shape in needed.items()
        if name in found and tuple(found[name].shape) != tuple(shape)
    ]
    wrong = [
        f'{what}{names[0]}' + (f' and {len(names) - 1} more' if len(names) > 1 else '')
        for what, names in (
            ('missing key ', missing), ('extra key ', extra), ('wrong shape: ', misshapen)
        )
        if names
    ]  # fmt: skip
    if wrong:
        raise WeightsError(f'{path}: {"; ".join(wrong)}; nothing was taken from it')


def _why(path: Path, error: Exception) -> str:
    """One line on a file that torch would not read."""
    text = str(error)
    wanted = _WANTED.search(text)
    if isinstance(error, pickle.UnpicklingError) and wanted:
        return (
            f'{path}: it wants to run {wanted.group(1)}; only plain tensors are read, so nothing '
            "was: do not trust this file, or save the network's plain state_dict()"
        )
    sentence = text.strip().split('. ')[0].splitlines() or [type(error).__name__]
    first = sentence[0][:120]
    return f'{path}: no state dict that torch can read ({first}); download it again'
