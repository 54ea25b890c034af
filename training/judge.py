# SPDX-License-Identifier: Apache-2.0
"""
Judge model bundles: on rendered worlds that no training saw, and on marked pairs of real clips.

    python -m training synthesize HELD_OUT --from-seed 1000000 --worlds 12 --pairs 4 \
        --families tube cavity bed fork
    python -m training.judge compact photometric --worlds HELD_OUT --marks MARKS.json
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from endosfm3d_ros.bags.videos import VideoFrames
from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.core.depth_map import DepthNetwork
from endosfm3d_ros.core.picture.field_of_view import find_field_of_view
from endosfm3d_ros.core.prepare import choose_window, prepare
from endosfm3d_ros.engines.choose import DepthGraphs
from endosfm3d_ros.evaluation.depth import constant_depth_errors, depth_errors
from endosfm3d_ros.evaluation.falloff import light_falloff
from endosfm3d_ros.evaluation.marks import Marks, read_marks, right_by_depth, right_by_rule, scores

HIGHLIGHT_LEVEL = 240  # as bright in every channel is a wet highlight
HIGHLIGHT_RING = 0.012  # it is compared with a ring so wide around it, of the picture's width
HIGHLIGHT_AREA = 5e-5  # and must be as large, of the width squared
Table = dict[str, dict[str, float]]


def on_worlds(bundle: str, folder: Path) -> Table:
    """
    Score depth and, where the bundle guesses it, the focal length.

    :param bundle: name or folder; folder: pairs of `training.synthesize` at one of its sizes.
    :return: by family: pictures, abs_rel (median-scaled) of the bundle, of light falloff and of a
        constant on the same pixels, the first over the second (of_falloff), and where the bundle
        guesses it focal (mean relative error), focal_nse (mean squared error over its own sigma's)
        and focal_sigma (mean, of the logarithm).
    :raises ValueError: there are no pairs.
    """
    paths = sorted(folder.glob('*.npz'))
    if not paths:
        raise ValueError(f'{folder}: no pairs; run: python -m training synthesize {folder}')
    network = DepthGraphs(open_bundle(bundle))
    found: dict[str, dict[str, list[float]]] = {}
    for path in paths:
        of_family = found.setdefault(path.stem.split('_')[0], {})
        with np.load(path) as world:
            images, depths, cameras = world['images'], world['depths'], world['cameras']
        for picture, truth, camera in zip(
            images.reshape(-1, *images.shape[2:]),
            depths.reshape(-1, *depths.shape[2:]).astype(np.float32),
            cameras.reshape(-1, 4),
            strict=True,
        ):
            said = network(np.ascontiguousarray(picture))
            errors = depth_errors(said.depth, truth)
            wall = constant_depth_errors(said.depth, truth)
            speaks = np.isfinite(said.depth) & (said.depth > 0)
            light = depth_errors(np.where(speaks, light_falloff(picture), np.nan), truth)
            if errors is None or wall is None or light is None:
                continue
            figures = {
                'abs_rel': errors.abs_rel,
                'falloff': light.abs_rel,
                'constant': wall.abs_rel,
            }
            if np.isfinite(said.log_focal):
                off = said.log_focal - float(np.log(camera[0]))
                figures['focal'] = float(np.expm1(abs(off)))
                figures['focal_nse'] = (off / said.log_focal_sigma) ** 2
                figures['focal_sigma'] = said.log_focal_sigma
            for name, value in figures.items():
                of_family.setdefault(name, []).append(value)
    return {family: _means(figures) for family, figures in found.items()}


def _means(figures: dict[str, list[float]]) -> dict[str, float]:
    """The mean of each figure, how many pictures they are of, and the share of light falloff."""
    means = {name: float(np.mean(values)) for name, values in figures.items()}
    count = {'pictures': float(len(figures['abs_rel']))} if figures else {}
    share = {'of_falloff': means['abs_rel'] / means['falloff']} if figures else {}
    return count | means | share


def on_marks(bundles: list[str], marks: Path, clips: Path) -> Table:
    """
    Score the order of marked points, the naive rules beside the bundles.

    :param marks: file of marks; clips: folder with CLIP/clip.mp4 for each clip in it.
    :return: by clip, and 'all': the share of right answers of each bundle and rule.
    :raises ValueError: a clip ends before a frame that was marked.
    """
    opened = {name: open_bundle(name) for name in bundles}
    networks = {name: DepthGraphs(bundle) for name, bundle in opened.items()}
    answers: dict[str, dict[str, list[np.ndarray]]] = {}
    for clip, marked in read_marks(marks).items():
        for one, image in _pictures(clips / clip / 'clip.mp4', marked):
            said = dict(right_by_rule(one, image))
            for name, network in networks.items():
                said[name] = right_by_depth(
                    one, depth_of_input(network, opened[name].sizes, image)
                )
            for name, values in said.items():
                for key in (clip, 'all'):
                    answers.setdefault(key, {}).setdefault(name, []).append(values)
    return {
        key: scores({name: np.concatenate(parts) for name, parts in some.items()})
        for key, some in answers.items()
    }


def on_highlights(bundle: str, clips: Path, every: int = 25) -> dict[str, float]:
    """
    Ask how far depth jumps at wet highlights, where the surface does not.

    :param clips: folder with CLIP/clip.mp4; every: so many frames one is asked.
    :return: by clip the median over its highlights of |log depth inside / depth around|.
    """
    opened = open_bundle(bundle)
    network = DepthGraphs(opened)
    found = {}
    for clip in sorted(clips.glob('*/clip.mp4')):
        steps: list[float] = []
        for number, frame in enumerate(VideoFrames(clip)):
            if number % every == 0:
                depth = depth_of_input(network, opened.sizes, frame.image)
                steps += highlight_steps(frame.image, depth)
        if steps:
            found[clip.parent.name] = float(np.median(steps))
    return found


def highlight_steps(image: np.ndarray, depth: np.ndarray) -> list[float]:
    """
    The step of log depth at each highlight's edge.

    :param image: (H, W, 3) uint8 RGB; depth: (H, W), NaN where unknown.
    """
    glint = (image.min(axis=2) >= HIGHLIGHT_LEVEL).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(glint)
    reach = max(round(HIGHLIGHT_RING * image.shape[1]), 2)
    around = cv2.dilate(glint, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) - cv2.dilate(
        glint, np.ones((3, 3), np.uint8)
    )
    steps = []
    for one in range(1, count):
        if stats[one, cv2.CC_STAT_AREA] < HIGHLIGHT_AREA * image.shape[1] ** 2:
            continue
        inside = labels == one
        near = cv2.dilate(inside.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8))
        ring = (near > 0) & (around > 0)
        values = np.median(depth[inside]), np.nanmedian(depth[ring]) if ring.any() else np.nan
        if np.isfinite(values).all():
            steps.append(float(abs(np.log(values[0] / values[1]))))
    return steps


def depth_of_input(
    network: DepthNetwork, sizes: Sequence[tuple[int, int]], image: np.ndarray
) -> np.ndarray:
    """
    Depth at an input picture's own size, as the pipeline would see its first frame.

    :param sizes: (height, width) that the network takes [px]; image: (H, W, 3) uint8 RGB.
    :return: (H, W) float32 [mm]; NaN outside the field of view.
    """
    height, width = image.shape[:2]
    field = find_field_of_view(image, None)
    window = choose_window(field, sizes)
    depth = network(prepare(image, window)).depth
    depth = np.where(window.mask(field), depth, np.float32(np.nan))
    whole = np.full((height, width), np.nan, np.float32)
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    whole[rows, columns] = cv2.resize(
        depth, (window.width, window.height), interpolation=cv2.INTER_NEAREST
    )
    return whole


def _pictures(clip: Path, marked: list[Marks]) -> Iterator[tuple[Marks, np.ndarray]]:
    wanted: dict[int, list[Marks]] = {}
    for one in marked:
        wanted.setdefault(one.frame, []).append(one)
    frames = 0
    for number, frame in enumerate(VideoFrames(clip)):
        frames = number + 1
        for one in wanted.pop(number, []):
            yield one, frame.image
    if wanted:
        raise ValueError(
            f'{clip} has {frames} frames, needed frame {min(wanted)}, which was marked: '
            'take the clip that the marks were made on'
        )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('bundles', nargs='+', help='names of shipped bundles, or folders')
    parser.add_argument('--worlds', type=Path, help='held-out pairs at a size of the bundles')
    parser.add_argument('--marks', type=Path, help='marked pairs of real clips')
    parser.add_argument('--clips', type=Path, help='folder of the clips that were marked')
    a = parser.parse_args()
    if not (a.worlds or a.marks):
        parser.error('there is nothing to judge by: give --worlds or --marks')
    result: dict[str, object] = {}
    if a.worlds:
        result['worlds'] = {bundle: on_worlds(bundle, a.worlds) for bundle in a.bundles}
    if a.marks:
        clips = a.clips or a.marks.parent.parent
        result['marks'] = on_marks(a.bundles, a.marks, clips)
        result['highlights'] = {bundle: on_highlights(bundle, clips) for bundle in a.bundles}
    print(json.dumps(result, indent=2))
    return 0


if __name__ == '__main__':
    sys.exit(main())
