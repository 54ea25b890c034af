# SPDX-License-Identifier: Apache-2.0
"""
Judge what the whole pipeline says of zoom, focal length and path on films of worlds that no
training saw: the scope advances, sways, rests and zooms up to 1.7 times, at most half of its
focal length a second.

Each family is filmed with a rim that zooms along (optical), with one that stands still
(electronic; the pipeline is told so, as `field_of_view: mask` does) and without one (none).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.core.frame import Frame, Reconstruction
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.core.settings import Settings
from endosfm3d_ros.engines.choose import DepthGraphs
from endosfm3d_ros.evaluation.depth import depth_errors
from endosfm3d_ros.evaluation.intrinsics import focal_length, intrinsics_errors
from endosfm3d_ros.evaluation.trajectory import (
    SNIPPET,
    constant_forward,
    no_motion,
    snippet_errors,
)
from training.geometry.films import HEIGHT, RATE, TRIES, WIDTH, Filmed, lasts
from training.geometry.runs import Remembered, depth_ratio
from training.synthetic.film import draw_film, shots_of
from training.synthetic.samples import FAMILIES

STOPS = ('optical', 'electronic', 'none')
UNSEEN = 3_000_000  # added to a seed: neither trained on nor tuned on
RESTS = 1e-4  # a log zoom that moves less a frame rests
SETTLED, RESTS_LONG = 5, 5  # a rest counts from so many frames after it began, when as long again
DEPTH_EVERY = 10  # frames
LEARNT = 25  # frames after which the focal length is judged


@dataclass(frozen=True)
class Figures:
    """
    What came of a film; shares, not per cent.

    :param film: family_stop_seed; refinement: 'window' or 'none'.
    :param zoom: RMS of z / z* - 1, z the zoom that `status` tells; correlation, lag [s]: of it.
    :param focal_zoom: the same of f(t) / f(0) by K, which moves too when f0 is learnt.
    :param focal_start: |f / f* - 1| of the first frame; focal: its mean from a second on.
    :param focal_nse: mean from a second on of log f's squared error over its stated variance.
    :param rest_jitter: largest standard deviation of log zoom within a rest of the zoom, 0.2 s
        after it began.
    :param rest_focal_jitter: the same of log f by K.
    :param snippet: 5-frame ATE [mm], that of a camera that never moves, that goes straight
        ahead, and (an oracle, no bar) that repeats the true step before the snippet.
    :param abs_rel: of depth as the pipeline tells it from a second on, median-scaled.
    """

    film: str
    refinement: str
    zoom: float
    correlation: float | None
    lag: float | None
    focal_zoom: float
    focal_start: float
    focal: float
    focal_nse: float
    rest_jitter: float
    rest_focal_jitter: float
    snippet: float
    snippet_still: float
    snippet_forward: float
    snippet_oracle: float
    abs_rel: float


def film_of(folder: Path, family: str, stop: str, seed: int, seconds: float) -> Filmed:
    """Render a film, unless the folder has it at this length."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{family}_{stop}_{seed}.npz'
    if not lasts(path, seconds):
        images, depth, K, T_world_cam, stamps = _rendered(path.name, family, stop, seed, seconds)
        part = path.with_suffix('.part.npz')
        np.savez(part, images=images, depth=depth, K=K, T_world_cam=T_world_cam, stamps=stamps)
        part.rename(path)
    with np.load(path) as kept:
        return Filmed(
            path.stem,
            kept['images'],
            kept['depth'],
            kept['K'],
            kept['T_world_cam'],
            kept['stamps'],
        )


def _rendered(
    name: str, family: str, stop: str, seed: int, seconds: float
) -> tuple[np.ndarray, ...]:
    for again in range(TRIES):
        number = UNSEEN + seed + 1000 * again
        try:
            film = draw_film(
                family, number, 'mixed', seconds, RATE, stop != 'none', stop == 'electronic'
            )
            break
        except ValueError as error:
            if again == TRIES - 1:
                raise ValueError(f'{name}: {error}') from error
    shots = list(shots_of(film, WIDTH, HEIGHT, UNSEEN + seed))
    return (
        np.stack([shot.image for shot in shots]),
        np.stack([shot.view.depth.astype(np.float16) for shot in shots]),
        np.stack([shot.camera.K for shot in shots]),
        np.stack([shot.camera.T_world_cam for shot in shots]),
        film.flight.stamps,
    )


def judged(
    film: Filmed, network: Remembered, sizes: tuple[tuple[int, int], ...], refinement: str
) -> Figures:
    """Play a film through a pipeline of its own, with the default prior of the focal length."""
    by_rim = '_electronic_' not in film.name
    pipeline = Pipeline(network, sizes, Settings(refinement=refinement, zoom_by_rim=by_rim))
    said: list[Reconstruction] = []
    for image, stamp in zip(film.images, film.stamps, strict=True):
        said.append(pipeline.step(Frame(image, round(stamp * 1e9) + 1, 'scope')))
        pipeline.settle()
    return figures(film, said, refinement)


def figures(film: Filmed, said: Sequence[Reconstruction], refinement: str) -> Figures:
    """Lay what was said of every frame beside the truth."""
    K = np.stack([one.input_camera.matrix for one in said])
    zoom = np.nan_to_num(np.array([one.zoom for one in said]), nan=1.0)  # not known: not zoomed
    told = film.K.copy()  # a camera whose focal length is the told zoom times the true first one
    told[:, 0, 0] = told[:, 1, 1] = focal_length(film.K)[0] * zoom / zoom[0]
    by_zoom = intrinsics_errors(film.stamps, told, film.K)
    off = np.log(focal_length(K) / focal_length(film.K))
    sigma = np.array([one.log_focal_sigma for one in said])
    path = np.stack([one.T_odom_cam for one in said])
    truth, order = film.T_world_cam, np.arange(len(said))
    return Figures(
        film=film.name,
        refinement=refinement,
        zoom=by_zoom.zoom,
        correlation=by_zoom.zoom_correlation,
        lag=by_zoom.zoom_lag,
        focal_zoom=intrinsics_errors(film.stamps, K, film.K).zoom,
        focal_start=float(np.expm1(abs(off[0]))),
        focal=float(np.abs(np.expm1(off[LEARNT:])).mean()),
        focal_nse=float(np.mean((off[LEARNT:] / sigma[LEARNT:]) ** 2)),
        rest_jitter=rest_jitter(zoom, focal_length(film.K)),
        rest_focal_jitter=rest_jitter(focal_length(K), focal_length(film.K)),
        snippet=float(snippet_errors(path, truth)[1:].mean() / SNIPPET),
        snippet_still=float(snippet_errors(no_motion(len(said)), truth)[1:].mean() / SNIPPET),
        snippet_forward=float(snippet_errors(constant_forward(order), truth)[1:].mean() / SNIPPET),
        snippet_oracle=float(repeated_step_errors(truth).mean() / SNIPPET),
        abs_rel=_abs_rel(film, said),
    )


def _abs_rel(film: Filmed, said: Sequence[Reconstruction]) -> float:
    """Mean over pictures from a second on, at the film's pixels."""
    scored = []
    for number in range(LEARNT, len(said), DEPTH_EVERY):
        true = film.depth[number].astype(np.float32)
        if errors := depth_errors(true * np.exp(depth_ratio(film, said, number)), true):
            scored.append(errors.abs_rel)
    return float(np.mean(scored)) if scored else float('nan')


def rest_jitter(said: np.ndarray, focal_true: np.ndarray) -> float:
    """
    Largest standard deviation of log `said` (N,) within a rest of the true focal length (N,); NaN
    without a rest.
    """
    still = np.abs(np.diff(np.log(focal_true), prepend=np.log(focal_true[0]))) < RESTS
    edges = np.flatnonzero(np.diff(np.r_[False, still, False].astype(int)))
    spreads = [
        float(np.std(np.log(said[first + SETTLED : end])))
        for first, end in edges.reshape(-1, 2)
        if end - first >= SETTLED + RESTS_LONG
    ]
    return max(spreads, default=float('nan'))


def repeated_step_errors(T_world_cam: np.ndarray) -> np.ndarray:
    """Snippets (see `snippet_errors`) that repeat the true step before them."""
    errors = []
    for first in range(1, len(T_world_cam) - SNIPPET + 1):
        step = np.linalg.inv(T_world_cam[first - 1]) @ T_world_cam[first]
        path = [np.linalg.matrix_power(step, k) for k in range(SNIPPET)]
        errors.append(snippet_errors(np.stack(path), T_world_cam[first : first + SNIPPET])[0])
    return np.array(errors)


def table(runs: Sequence[Figures]) -> str:
    """
    A row of medians for each stop and refinement, markdown; zoom and focal in per cent. A told
    zoom that stands still has no correlation and no lag: where some films' does, it is said.
    """
    lines = [
        '| stop, refinement | films | zoom off: median, worst | by K | correlation: least | lag: '
        'median, worst [s] | focal at start / after 1 s | squared error by variance | jitter at '
        'rest: zoom, K | snippet ATE | still | forward | oracle | films better than both | '
        'depth abs rel |',
        '|---' * 15 + '|',
    ]
    for refinement in ('window', 'none'):
        for stop in STOPS:
            some = [r for r in runs if f'_{stop}_' in r.film and r.refinement == refinement]
            if some:
                lines.append(_row(f'{stop}, {refinement}', some))
    return '\n'.join(lines) + '\n'


def _row(name: str, runs: Sequence[Figures]) -> str:
    def values(field: str) -> np.ndarray:
        all_of_them = np.array([getattr(r, field) for r in runs], float)  # None becomes NaN
        return np.asarray(all_of_them[np.isfinite(all_of_them)])

    def median(field: str) -> float:
        return float(np.median(values(field))) if len(values(field)) else float('nan')

    def worst(field: str) -> float:
        return float(np.abs(values(field)).max()) if len(values(field)) else float('nan')

    def of_those(field: str) -> str:
        told = len(values(field))
        return f' ({told} of {len(runs)} films)' if 0 < told < len(runs) else ''

    better = sum(r.snippet < min(r.snippet_still, r.snippet_forward) for r in runs)
    least = float(values('correlation').min()) if len(values('correlation')) else float('nan')
    cells = [
        name,
        f'{len(runs)}',
        f'{100 * median("zoom"):.2f}, {100 * worst("zoom"):.2f}',
        f'{100 * median("focal_zoom"):.1f}',
        f'{least:.3f}{of_those("correlation")}',
        f'{median("lag"):.3f}, {worst("lag"):.3f}{of_those("lag")}',
        f'{100 * median("focal_start"):.1f} / {100 * median("focal"):.1f}',
        f'{median("focal_nse"):.2f}',
        f'{100 * median("rest_jitter"):.2f}, {100 * median("rest_focal_jitter"):.2f}',
        *(f'{median(f"snippet{what}"):.4f}' for what in ('', '_still', '_forward', '_oracle')),
        f'{better}',
        f'{median("abs_rel"):.3f}',
    ]
    return '| ' + ' | '.join(cells) + ' |'


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='folder of films, films.json and table')
    parser.add_argument('--bundle', default='compact', help='whose depth is used')
    parser.add_argument('--families', nargs='+', default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument('--stops', nargs='+', default=list(STOPS), choices=STOPS)
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], help='a film of each')
    parser.add_argument('--seconds', type=float, default=4.0, help='of each film')
    a = parser.parse_args()
    if a.seconds < 2.0:
        raise ValueError(f'--seconds is {a.seconds:g}, at least 2 are needed')
    opened = open_bundle(a.bundle)
    graphs, runs = DepthGraphs(opened, 'auto'), []
    for seed in a.seeds:
        for family in a.families:
            for stop in a.stops:
                film, network = film_of(a.out, family, stop, seed, a.seconds), Remembered(graphs)
                for refinement in ('window', 'none'):
                    runs.append(judged(film, network, opened.sizes, refinement))
                    print(runs[-1], file=sys.stderr, flush=True)
    (a.out / 'films.json').write_text(json.dumps([asdict(one) for one in runs], indent=1))
    (a.out / 'table.md').write_text(table(runs))
    print(table(runs))
    return 0


if __name__ == '__main__':
    sys.exit(main())
