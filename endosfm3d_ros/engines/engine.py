# SPDX-License-Identifier: Apache-2.0
"""What every runtime offers: a compiled graph that turns pictures into named arrays."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from endosfm3d_ros.bundle import Graph


class EngineError(RuntimeError):
    """A runtime or a graph that can't be used: what was found, what was needed, what mends it."""


class Engine(Protocol):
    """
    One compiled graph; deterministic, to be called from one thread at a time.

    :param runtime: name and version of what runs it, for people.
    """

    runtime: str

    def run(self, *pictures: np.ndarray) -> dict[str, np.ndarray]:
        """
        Run the graph once.

        :param pictures: (h, w, 3) uint8 RGB each, of the graph's size, in the order of its inputs.
        :return: its outputs by name, float32, valid until the next call.
        """
        ...


def check_inputs(
    graph: Graph, found: Sequence[tuple[Sequence[int | str | None], np.dtype | None]]
) -> None:
    """
    Hold what a runtime read out of a graph against what the manifest says.

    :param graph: a checked graph.
    :param found: shape and type of each of its inputs; a side that is no number fits any size,
        None for a type that is not ours.
    :raises EngineError: they are not uint8 pictures of the manifest's size.
    """
    needed = [graph.height, graph.width, 3]

    def fits(shape: Sequence[int | str | None], dtype: np.dtype | None) -> bool:
        return (
            dtype == np.uint8
            and len(shape) == len(needed)
            and all(a == b or not isinstance(a, int) for a, b in zip(shape, needed, strict=True))
        )

    if not found or not all(fits(shape, dtype) for shape, dtype in found):
        shapes = ', '.join(f'{list(shape)} {dtype}' for shape, dtype in found)
        raise EngineError(
            f'{graph.path}: takes {shapes}, the manifest says pictures of {needed} uint8; '
            'export the bundle again'
        )


def check_count(graph: Graph, inputs: Sequence[str], pictures: Sequence[np.ndarray]) -> None:
    """
    Refuse to run a graph on more or fewer pictures than it takes: what is not given would be
    whatever lies in memory there.

    :param inputs: names of the graph's inputs.
    :raises EngineError: their numbers differ.
    """
    if len(inputs) != len(pictures):
        raise EngineError(
            f'{graph.path}: its inputs are {", ".join(inputs)}; where the manifest has it, '
            f'{len(pictures)} needed: export the bundle again'
        )


def last_line(error: Exception) -> str:
    """What a runtime has to say, without the pages before it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()
