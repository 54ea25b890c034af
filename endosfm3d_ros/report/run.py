# SPDX-License-Identifier: Apache-2.0
"""
A run as its bag tells it: one row per frame, and the pictures of the moments somebody asks for.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from endosfm3d_ros.bags.nodes import STATUS, choose_node
from endosfm3d_ros.bags.reading import RunBag, Stored
from endosfm3d_ros.core.frame import Intrinsics
from endosfm3d_ros.core.scale import NOMINAL
from endosfm3d_ros.evaluation.compare import Estimate
from endosfm3d_ros.evaluation.lens import Lens
from endosfm3d_ros.evaluation.scoring import DepthPicture
from endosfm3d_ros.report import messages

ODOMETRY, DEPTH, RGB, CONFIDENCE = 'odometry', 'depth/image', 'rgb/image', 'depth/confidence'
INPUT_CAMERA, CAMERA = 'input/camera_info', 'depth/camera_info'
NEEDED = (STATUS, ODOMETRY, INPUT_CAMERA, CAMERA, DEPTH)


class Key(NamedTuple):
    """
    Which frame of a run.

    :param turn: how often its stamp came before: a clip may be looped, a clock jump back.
    :param stamp_ns: the frame's own stamp [ns].
    """

    turn: int
    stamp_ns: int


@dataclass(frozen=True)
class Row:
    """
    What was said about one frame, without its pictures.

    :param key: which frame.
    :param receipt_ns: when the recorder had its depth image; its status, where depth is withheld
        [ns].
    :param valid: whether the picture showed something that can be reconstructed.
    :param reason: why not; '' when valid.
    :param scale_state: nominal, or what anchored the scale.
    :param scale: factor already applied to depth and motion.
    :param scale_sigma: standard deviation of its log; NaN while nothing is known.
    :param k_trust: 0 (a guess) to 1 (a calibration).
    :param k_sigma: standard deviation of the log of the focal lengths.
    :param camera_model: pinhole_approximation, straightened or given; '' where it does not say.
    :param distortion: of the input picture's lens (`core/lens.py`), undone in every output; 0
        before it is told from none, NaN in bags of before it was asked; distortion_sigma of it.
    :param lens: of the input picture, by that or by the calibration that was given.
    :param zoom: focal length over that at the epoch's start; zoom_sigma of its log.
    :param epoch: counts restarts of odometry and filters.
    :param motion_known: False where the path was held because nothing could be said.
    :param inliers: tracks that agree with the motion.
    :param received: frames that reached the node so far; -1 where it does not say.
    :param lost: frames lost before the node so far; -1 where it does not say.
    :param dropped: frames replaced by a newer one in the mailbox so far; -1 where it does not say.
    :param coverage: share of the depth image that is not NaN; NaN where depth was withheld.
    :param median_depth: of the depth image [mm, nominal]; NaN where it has none.
    :param camera: of the network picture.
    :param input_camera: the same camera at the input picture's size.
    :param T_odom_cam: (4, 4) [mm, nominal]; NaN where it was withheld.
    """

    key: Key
    receipt_ns: int
    valid: bool
    reason: str
    scale_state: str
    scale: float
    scale_sigma: float
    k_trust: float
    k_sigma: float
    camera_model: str
    distortion: float
    distortion_sigma: float
    lens: Lens
    zoom: float
    zoom_sigma: float
    epoch: int
    motion_known: bool
    inliers: int
    received: int
    lost: int
    dropped: int
    coverage: float
    median_depth: float
    camera: Intrinsics
    input_camera: Intrinsics
    T_odom_cam: np.ndarray

    @property
    def stamp_ns(self) -> int:
        """The frame's own stamp [ns]."""
        return self.key.stamp_ns

    @property
    def unit(self) -> str:
        """What its lengths are in."""
        return 'nominal mm' if self.scale_state in ('', NOMINAL) else 'mm'


@dataclass(frozen=True)
class Moment:
    """
    The pictures of one frame.

    :param row: the rest that was said about it.
    :param image: (h, w, 3) uint8 RGB.
    :param depth: (h, w) float32 [mm, nominal]; NaN where unknown.
    :param confidence: (h, w) float32 in [0, 1].
    """

    row: Row
    image: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class Run:
    """
    A run's bag and what was measured beside it.

    :param bag: where its messages are.
    :param node: full name of the node that ran.
    :param facts: what the bag cannot know (see `summary.summarise`).
    :param rows: frames with every output, in the order of receipt.
    :param incomplete: frames of which some output is missing in the bag.
    :param turns: of each stamp that came several times, how often.
    """

    bag: RunBag
    node: str
    facts: dict[str, Any]
    rows: tuple[Row, ...]
    incomplete: int
    turns: Counter[int]

    def column(self, name: str) -> np.ndarray:
        """One field of every row, (N,)."""
        return np.array([getattr(row, name) for row in self.rows])

    @property
    def why_none(self) -> str:
        """Why no frame has every output."""
        if not self.incomplete:
            return 'No frame was answered'
        needed = (f'{self.node}/{topic}' for topic in NEEDED)
        topics = self.bag.topics
        lacking = [name for name in needed if name not in topics or not topics[name].count]
        found = f', which lacks {", ".join(lacking)}' if lacking else ''
        return f'No frame has all its outputs in the bag{found}'

    @property
    def last_scale(self) -> np.ndarray:
        """Whether each frame's millimetres are worth what the last one's are, (N,) bool."""
        scales = [(row.scale_state, float(np.nan_to_num(row.scale))) for row in self.rows]
        return np.array([scale == scales[-1] for scale in scales], bool)

    @property
    def seconds(self) -> np.ndarray:
        """Time since the first frame, (N,) [s]; where stamps jump back a usual step goes by."""
        if not self.rows:
            return np.empty(0)
        steps = np.diff(self.column('stamp_ns')) * 1e-9
        ahead = steps > 0
        usual = float(np.median(steps[ahead])) if ahead.any() else 1.0
        return np.concatenate([[0.0], np.cumsum(np.where(ahead, steps, usual))])

    @property
    def times(self) -> dict[Key, float]:
        """The same by frame [s]."""
        return dict(zip((row.key for row in self.rows), self.seconds.tolist(), strict=True))

    @property
    def estimate(self) -> Estimate:
        """What the evaluation needs of every frame."""
        return Estimate(
            stamps_ns=self.column('stamp_ns'),
            cameras=tuple(row.input_camera for row in self.rows),
            T_odom_cam=np.stack([row.T_odom_cam for row in self.rows])
            if self.rows
            else np.empty((0, 4, 4)),
            epochs=self.column('epoch'),
        )

    def depth_pictures(self) -> Iterator[DepthPicture]:
        """
        What the evaluation needs of the pictures: every depth image, one after the other, in the
        input's own pixels.
        """
        rows = {row.key: row for row in self.rows}
        beside = self._pictures_beside()
        for key, stored in self._by_key(DEPTH) if rows else ():
            if row := rows.get(key):
                depth, camera = row.lens.saw(messages.depth_mm(stored.message), row.camera)
                image = beside(key)
                if image is not None:
                    image, _ = row.lens.saw(image, row.camera)
                yield DepthPicture(row.stamp_ns, depth, camera, row.input_camera, image)

    def _pictures_beside(self) -> Callable[[Key], np.ndarray | None]:
        """
        What finds the network picture of a frame, when asked for one after the other; None where
        it is missing, and the next one is kept for its own frame.
        """
        stream = self._by_key(RGB)
        ahead: list[tuple[Key, Stored]] = []

        def find(key: Key) -> np.ndarray | None:
            while not ahead or ahead[0][0] < key:
                ahead[:] = islice(stream, 1)
                if not ahead:
                    return None
            return messages.picture(ahead.pop()[1].message) if ahead[0][0] == key else None

        return find

    def moments(self, rows: Iterable[Row]) -> list[Moment]:
        """The pictures of some frames, in their order; frames that lack one are left out."""
        wanted = {row.key: row for row in rows}
        readers = {RGB: messages.picture, DEPTH: messages.depth_mm, CONFIDENCE: messages.picture}
        found: dict[Key, list[np.ndarray]] = {key: [] for key in wanted}
        for topic, read in readers.items():
            for key, stored in self._by_key(topic) if wanted else ():
                if key in found:
                    found[key].append(read(stored.message))
        return [
            Moment(wanted[key], *pictures)
            for key, pictures in found.items()
            if len(pictures) == len(readers)
        ]

    def _by_key(self, topic: str) -> Iterator[tuple[Key, Stored]]:
        return _by_key(self.bag, f'{self.node}/{topic}', self.turns)


def _by_key(bag: RunBag, topic: str, turns: Counter[int]) -> Iterator[tuple[Key, Stored]]:
    """
    The messages of a topic with the frames they are of; nothing where it is not in the bag.

    :param turns: of `Run`. Messages of such a stamp that the topic lacks are taken for the
        first ones: lengths are withheld until the scale is known.
    """
    next_turn: Counter[int] = Counter()
    if turns:
        lacking = turns - Counter(stamp for stamp, _ in _stamped(bag, topic) if stamp in turns)
        next_turn.update(lacking)
    for stamp_ns, stored in _stamped(bag, topic):
        yield Key(next_turn[stamp_ns], stamp_ns), stored
        next_turn[stamp_ns] += 1


def _stamped(bag: RunBag, topic: str) -> Iterator[tuple[int, Stored]]:
    for stored in bag.messages(topic) if topic in bag.topics else ():
        yield messages.stamp_ns(stored.message), stored


def read_run(path: Path, facts: dict[str, Any] | None = None, node: str | None = None) -> Run:
    """
    Read everything about a run but its pictures.

    :param path: the run's bag, one .mcap file.
    :param facts: see `summary.summarise`; what is not in them is taken from what the bag says of
        itself.
    :param node: full name of the node, where the bag holds runs of several.
    """
    bag = RunBag(path)
    node = choose_node(path, bag.topics, node)
    readers: dict[str, Callable[[Stored], dict[str, Any]]] = {
        STATUS: _status_fields,
        ODOMETRY: lambda stored: {'T_odom_cam': messages.camera_motion(stored.message)},
        INPUT_CAMERA: _input_camera_fields,
        CAMERA: lambda stored: {'camera': messages.camera(stored.message)},
        DEPTH: _depth_fields,
    }
    fields: dict[Key, dict[str, Any]] = {}
    came = Counter(stamp for stamp, _ in _stamped(bag, f'{node}/{STATUS}'))
    turns = Counter({stamp: often for stamp, often in came.items() if often > 1})
    for topic, read in readers.items():  # the status first: whole rows come in its order
        for key, stored in _by_key(bag, f'{node}/{topic}', turns):
            fields.setdefault(key, {'key': key}).update(read(stored))
    for row in fields.values():
        if np.nan_to_num(row.get('distortion', 0.0)):
            row['lens'] = Lens(row['distortion'])
    for row in _withheld(list(fields.values())):
        row.update(coverage=float('nan'), median_depth=float('nan'))
        row.setdefault('T_odom_cam', np.full((4, 4), np.nan))
    whole = [row for row in fields.values() if set(row) == set(Row.__dataclass_fields__)]
    rows = tuple(Row(**row) for row in whole)
    noted = {**_facts_of(bag), **(facts or {})}
    return Run(bag, node, noted, rows, len(fields) - len(rows), turns)


def _withheld(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Frames whose lengths were withheld (`require_metric`): all where no depth came; else those of
    a nominal scale before the first one, which was not.
    """
    first = next((place for place, row in enumerate(rows) if 'coverage' in row), len(rows))
    if first < len(rows) and rows[first].get('scale_state', NOMINAL) == NOMINAL:
        return []
    return [row for row in rows[:first] if row.get('scale_state') == NOMINAL]


def choose_moments(run: Run, count: int = 6) -> list[Row]:
    """Rows spread evenly over the frames with depth; over all frames where none has any."""
    candidates = [row for row in run.rows if row.coverage > 0] or list(run.rows)
    if len(candidates) <= count:
        return candidates
    places = np.linspace(0, len(candidates) - 1, count).round().astype(int)
    return [candidates[place] for place in places]


NUMBERS = (
    'scale', 'scale_sigma', 'k_trust', 'k_sigma', 'distortion', 'distortion_sigma', 'zoom',
    'zoom_sigma',
)  # fmt: skip


def _facts_of(bag: RunBag) -> dict[str, Any]:
    """What whoever wrote the bag noted in it, under the names of the summary."""
    names = {'source': 'clip', 'model': 'bundle', 'runtime': 'runtime'}
    noted: dict[str, Any] = {names[name]: bag.facts[name] for name in names if name in bag.facts}
    wrote = {'recorder': 'live', 'runtime': 'offline'}  # only the end of each notes it
    mode = next((mode for name, mode in wrote.items() if name in bag.facts), None)
    return {**noted, 'mode': mode}


def _status_fields(stored: Stored) -> dict[str, Any]:
    """Read the status's keys into a row's fields; a number that is not there is NaN."""
    said = messages.status(stored.message)

    def number(name: str) -> float:
        return float(said.get(name) or 'nan')

    return {
        'receipt_ns': stored.log_time_ns,  # a depth image's own replaces it
        'valid': said['valid'].lower() == 'true',
        'reason': said.get('reason', ''),
        'scale_state': said.get('scale_state', ''),
        'camera_model': said.get('camera_model', ''),
        'motion_known': said.get('motion_known', 'true').lower() == 'true',
        'epoch': messages.epoch(stored.message),
        'inliers': int(float(said.get('inliers', '0'))),
        **{name: int(float(said.get(name, '-1'))) for name in ('received', 'lost', 'dropped')},
        **{name: number(name) for name in NUMBERS},
    }


def _input_camera_fields(stored: Stored) -> dict[str, Any]:
    return {
        'input_camera': messages.camera(stored.message),
        'lens': messages.lens(stored.message),  # one found from the motion replaces it
    }


def _depth_fields(stored: Stored) -> dict[str, Any]:
    """What a row keeps of its depth image."""
    depth = messages.depth_mm(stored.message)
    known = depth[np.isfinite(depth)]
    return {
        'receipt_ns': stored.log_time_ns,
        'coverage': known.size / depth.size,
        'median_depth': float(np.median(known)) if known.size else float('nan'),
    }
