# SPDX-License-Identifier: Apache-2.0
"""Films in which something goes wrong, and how the pipeline comes through it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

from endosfm3d_ros.core.frame import Reconstruction
from endosfm3d_ros.core.geometry import inverse
from endosfm3d_ros.evaluation.trajectory import trajectory_errors
from training.geometry.films import RATE, Filmed
from training.geometry.runs import SECOND, Remembered, Start, depth_ratio, played

CUT, BLURRED, BLACK, CROSSING = 20, 8, 50, 25  # frames
BLUR_PX = 15
SHAFT = 0.22  # width of the instrument [picture widths]
SPOTS, SPOT_PX = 14, (3.0, 9.0)
BREATHES, BREADTH_MM = 0.3, 3.0  # share of the picture, and over how much it fades out
STIRS = 0.15  # of the sway: what moves by less is not counted as breathing
SIDES_TRIED = 8
BREATH, BREATH_S = 0.04, 3.0  # how far [distances], and how long one takes
FEW = 12  # frames after a trouble that are not yet counted as after it
RIGID = 0.8  # of the tracks: a smaller share is a warning
START = Start(1.4, True, 'window')


@dataclass(frozen=True)
class Troubled:
    """
    A film with a trouble.

    :param frames: numbers of the first and behind the last frame that it lasts.
    """

    film: Filmed
    frames: tuple[int, int]


@dataclass(frozen=True)
class Outcome:
    """
    How it was come through.

    :param focal: |error of log focal length| at the end; focal_before: when the trouble began.
    :param path: ATE after Sim(3), as a share of the path's length, from FEW frames after the
        trouble on; where it lasts to the end, from a second on.
    :param scale: |log| of depth's scale at the end over that before the trouble; where it lasts,
        over that in the frames after the first second.
    :param warned: share of its frames that were not valid, or whose step was not known, or that
        said that less than RIGID of the tracks move as one.
    :param unknown: steps after it that were not known.
    """

    focal_before: float
    focal: float
    path: float
    scale: float
    warned: float
    unknown: int


FIELDS = [one.name for one in fields(Outcome)]


def come_through(
    films: Iterable[Filmed], network: Remembered, sizes: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, str, Outcome]]:
    """Every trouble in every film, from START: the film's name, the trouble's and its outcome."""
    for film in films:
        network.answers.clear()
        for name, made in TROUBLES.items():
            troubled = made(film, np.random.default_rng(0))
            said, _, _ = played(troubled.film, network, sizes, START)
            yield film.name, name, outcome(troubled, said)


def table(found: Sequence[tuple[str, str, Outcome]]) -> str:
    """Markdown: medians, and the worst, of each trouble's outcomes."""
    lines = [
        '| trouble | films | focal off before it / at the end [%] | worst | path after it [% of '
        'its length] | worst | scale moved by [%] | worst | its frames that warn [%] '
        '| unknown steps after it |',
        '|---' * 10 + '|',
    ]
    for trouble in TROUBLES:
        some = [one for _, name, one in found if name == trouble]
        columns = {name: np.array([getattr(one, name) for one in some]) for name in FIELDS}
        middle = {name: 100 * float(np.median(values)) for name, values in columns.items()}
        worst = {name: 100 * float(np.max(values)) for name, values in columns.items()}
        lines.append(
            f'| {trouble} | {len(some)} | {middle["focal_before"]:.1f} / {middle["focal"]:.1f} '
            f'| {worst["focal"]:.1f} | {middle["path"]:.1f} | {worst["path"]:.1f} '
            f'| {middle["scale"]:.1f} | {worst["scale"]:.1f} | {middle["warned"]:.0f} '
            f'| {int(np.median(columns["unknown"]))}, at most {int(columns["unknown"].max())} |'
        )
    return '\n'.join(lines) + '\n'


def outcome(troubled: Troubled, said: Sequence[Reconstruction]) -> Outcome:
    """Judge what was said of a film's frames."""
    film, (begin, end) = troubled.film, troubled.frames
    lasts = end >= len(said)
    after = range(SECOND if lasts else end + FEW, len(said))
    off = [abs(float(np.log(one.input_camera.fx / K[0, 0])))
           for one, K in zip(said, film.K, strict=True)]  # fmt: skip
    T = film.T_world_cam[after.start :]
    path_mm = float(np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1).sum())
    T_said = np.stack([said[n].T_odom_cam for n in after])
    before = range(SECOND, SECOND + FEW) if lasts else range(begin - FEW, begin)
    late = range(len(said) - FEW, len(said))
    scales = [float(np.nanmedian([np.nanmedian(depth_ratio(film, said, n)) for n in part]))
              for part in (before, late)]  # fmt: skip
    meanwhile = [said[n] for n in range(begin, min(end, len(said)))]
    return Outcome(
        focal_before=off[max(begin - 1, 0)],
        focal=off[-1],
        path=trajectory_errors(T_said, T).ate_sim3 / path_mm,
        scale=abs(scales[1] - scales[0]),
        warned=float(np.mean([_warns(one) for one in meanwhile])) if meanwhile else 0.0,
        unknown=0 if lasts else sum(not one.motion.known for one in said[end + 1 :]),
    )


def _warns(one: Reconstruction) -> bool:
    return not one.valid or not one.motion.known or one.rigid_share < RIGID


def _calm(film: Filmed, _: np.random.Generator) -> Troubled:
    """Nothing, to compare with."""
    half = len(film.images) // 2
    return Troubled(film, (half, half))


def _cut(film: Filmed, _: np.random.Generator) -> Troubled:
    """0.8 s are missing, and the stamps do not tell."""
    half = len(film.images) // 2
    return Troubled(_taken(film, [*range(half), *range(half + CUT, len(film.images))]),
                    (half, half + 1))  # fmt: skip


def _black(film: Filmed, _: np.random.Generator) -> Troubled:
    """The camera stands still for 2 s and shows nothing."""
    half = len(film.images) // 2
    numbers = [*range(half), *[half] * BLACK, *range(half, len(film.images))]
    film = _taken(film, numbers)
    film.images[half : half + BLACK] = 2
    return Troubled(film, (half, half + BLACK))


def _elsewhere(film: Filmed, _: np.random.Generator) -> Troubled:
    """For 0.8 s another place is seen: the film's beginning in a mirror. Then it goes on."""
    half = len(film.images) // 2
    away = film.images[:CUT, :, ::-1].copy()
    film = _taken(film, [*range(half), *[half] * CUT, *range(half, len(film.images))])
    film.images[half : half + CUT] = away
    film.depth[half : half + CUT] = np.nan
    return Troubled(film, (half, half + CUT))


def _blurred(film: Filmed, rng: np.random.Generator) -> Troubled:
    """A jerk: some pictures are smeared along a line."""
    half, angle = len(film.images) // 2, rng.uniform(0.0, 180.0)
    line = np.zeros((BLUR_PX, BLUR_PX), np.float32)
    line[BLUR_PX // 2] = 1.0
    middle = ((BLUR_PX - 1) / 2, (BLUR_PX - 1) / 2)
    line = cv2.warpAffine(line, cv2.getRotationMatrix2D(middle, angle, 1.0), line.shape)
    film = _taken(film, range(len(film.images)))
    for n in range(half, half + BLURRED):
        film.images[n] = cv2.filter2D(film.images[n], -1, line / line.sum())
    return Troubled(film, (half, half + BLURRED))


def _crossed(film: Filmed, rng: np.random.Generator) -> Troubled:
    """An instrument's shaft sweeps over the picture."""
    half = len(film.images) // 2
    film = _taken(film, range(len(film.images)))
    height, width = film.images.shape[1:3]
    lean = rng.uniform(-0.4, 0.4)
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    for n in range(half, half + CROSSING):
        at = width * ((n - half + 0.5) / CROSSING * (1 + 2 * SHAFT) - SHAFT)
        across = (u - at - lean * (v - height / 2)) / (SHAFT * width / 2)
        covered = np.abs(across) < 1
        grey = 40 + 150 * np.sqrt(np.clip(1 - (across[covered] - 0.3) ** 2, 0, 1))
        film.images[n][covered] = grey[:, None].astype(np.uint8)
        film.depth[n][covered] = np.nan
    return Troubled(film, (half, half + CROSSING))


def _glaring(film: Filmed, rng: np.random.Generator) -> Troubled:
    """Highlights that go with the scope, not with the tissue."""
    film = _taken(film, range(len(film.images)))
    height, width = film.images.shape[1:3]
    places = rng.uniform((0.15, 0.15), (0.85, 0.85), (SPOTS, 2)) * (width, height)
    sizes = rng.uniform(*SPOT_PX, (SPOTS, 2))
    angles, sway = rng.uniform(0, 180, SPOTS), rng.uniform(0, 2 * np.pi, SPOTS)
    for n, image in enumerate(film.images):
        glare = np.zeros((height, width), np.float32)
        for place, size, angle, phase in zip(places, sizes, angles, sway, strict=True):
            at = place + 3.0 * np.array([np.sin(0.2 * n + phase), np.cos(0.13 * n + phase)])
            centre, axes = tuple(map(round, at)), tuple(map(round, size))
            cv2.ellipse(glare, centre, axes, float(angle), 0, 360, 1.0, -1)
        glare = cv2.GaussianBlur(glare, (0, 0), 1.0)[..., None]
        film.images[n] = (image + glare * (255.0 - image)).astype(np.uint8)
    return Troubled(film, (0, len(film.images)))


def _breathing(film: Filmed, rng: np.random.Generator) -> Troubled:
    """
    Nearly a third of what is seen sways to and fro, by a twenty-fifth of its distance.

    Each point X of the world moves by w(X) d(t); the picture is warped as that moves its pixels.
    """
    film = _taken(film, range(len(film.images)))
    side, border = _breathing_side(film, rng)
    R, distance = film.T_world_cam[0][:3, :3], float(np.nanmedian(film.depth[0].astype(float)))
    turn = np.arctan2(*(side @ R)[1::-1]) + rng.uniform(0.3, 0.7) * np.pi
    sway = BREATH * distance * (R @ [np.cos(turn), np.sin(turn), 0.3])
    height, width = film.images.shape[1:3]
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    for n, stamp in enumerate(film.stamps):
        X = _points(film, n)
        weight = _breath_at(X @ side - border)
        moved = X + weight[..., None] * sway * np.sin(2 * np.pi * stamp / BREATH_S)
        T = inverse(film.T_world_cam[n])
        x = moved @ T[:3, :3].T + T[:3, 3]
        there = x @ film.K[n].T
        off_u, off_v = there[..., 0] / x[..., 2] - u, there[..., 1] / x[..., 2] - v
        map_u, map_v = (
            (at - np.nan_to_num(off)).astype(np.float32) for at, off in ((u, off_u), (v, off_v))
        )
        film.images[n] = cv2.remap(
            film.images[n], map_u, map_v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        film.depth[n] = cv2.remap(
            x[..., 2].astype(np.float32), map_u, map_v, cv2.INTER_NEAREST, borderValue=np.nan
        )
    return Troubled(film, (0, len(film.images)))


def _breathing_side(film: Filmed, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """
    Where it breathes: X @ side > border, BREATHES of all its frames in the mean, and of those
    sides that are tried the one of which the fullest frame has least.
    """
    places = [X[np.isfinite(X).all(axis=-1)] for X in
              (_points(film, n)[::4, ::4] for n in range(0, len(film.images), 5))]  # fmt: skip
    R, found = film.T_world_cam[0][:3, :3], []
    for angle in rng.uniform(0.0, 2 * np.pi, SIDES_TRIED):
        side = R @ [np.cos(angle), np.sin(angle), 0.0]
        along = [X @ side for X in places]
        border = float(np.quantile(np.concatenate(along), 1 - BREATHES))
        fullest = max(float((one > border).mean()) for one in along)
        found.append((fullest, side, border + BREADTH_MM * np.log(1 / STIRS - 1)))
    _, side, border = min(found, key=lambda one: one[0])
    return side, border


def _breath_at(beyond_mm: np.ndarray) -> np.ndarray:
    """How much of the sway a place so far beyond the border has: 0 to 1, half at the border."""
    with np.errstate(over='ignore', invalid='ignore'):
        return 1 / (1 + np.exp(-beyond_mm / BREADTH_MM))


def _points(film: Filmed, number: int) -> np.ndarray:
    """What every pixel sees, (H, W, 3) in the world [mm]; NaN where nothing."""
    z = film.depth[number].astype(float)
    height, width = z.shape
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(film.K[number]).T
    T = film.T_world_cam[number]
    return (rays * z[..., None]) @ T[:3, :3].T + T[:3, 3]


def _taken(film: Filmed, numbers: Sequence[int]) -> Filmed:
    """These frames of it, at an even rate; to be written on."""
    pick = np.array(numbers)
    return replace(
        film,
        images=film.images[pick],
        depth=film.depth[pick],
        K=film.K[pick],
        T_world_cam=film.T_world_cam[pick],
        stamps=np.arange(len(pick)) / RATE,
    )


TROUBLES: dict[str, Callable[[Filmed, np.random.Generator], Troubled]] = {
    'none': _calm,
    'highlights': _glaring,
    'a tool crosses': _crossed,
    '30 % breathes': _breathing,
    'blur': _blurred,
    'a cut of 0.8 s': _cut,
    '2 s of black': _black,
    'elsewhere for 0.8 s': _elsewhere,
}
