# SPDX-License-Identifier: Apache-2.0
"""
The last second or so as one map: keyframes and the points they share, adjusted together.

A pair of frames hardly tells a focal length; a window of keyframes does. What earlier windows
told of the scope is carried on (`words.py`).
"""

from dataclasses import dataclass, field, replace

import numpy as np

from endosfm3d_ros.core.adjustment.bundle_adjustment import Solution, place_points
from endosfm3d_ros.core.adjustment.priors import TIED
from endosfm3d_ros.core.adjustment.reprojection import USUAL_RMS
from endosfm3d_ros.core.adjustment.scene import (
    BENDS,
    CENTRE,
    DISTORTION,
    NEAREST_MM,
    REFERENCE,
    SHARED,
    Beliefs,
    Scene,
    Views,
)
from endosfm3d_ros.core.lens import distorted
from endosfm3d_ros.core.window import rigid
from endosfm3d_ros.core.window.carried import Lens, with_others_carried
from endosfm3d_ros.core.window.keyframe import Keyframe
from endosfm3d_ros.core.window.landmarks import Landmarks
from endosfm3d_ros.core.window.observations import shared_points, views_of
from endosfm3d_ros.core.window.parallax import zoom_doubt
from endosfm3d_ros.core.window.scope import Scope
from endosfm3d_ros.core.window.scope_told import (
    BEND_SIGMAS,
    TELLING,
    LensQuestion,
    is_unsure,
    overrated,
    scope_told,
    step_covariance,
    zoom_variance,
)
from endosfm3d_ros.core.window.words import CARRIED_ZOOM, Words
from endosfm3d_ros.core.window.zoom_told import RELIEF_SIGMA, with_zoom_told

WINDOW = 10  # keyframes
FEWEST_VIEWS = 3  # before that nothing is adjusted
FEWEST_SHARED = 20  # points
SCALE_SIGMA, FLICKER = 0.2, 0.04  # of depth maps' log scale: at all, and between keyframes
LOOSE_ZOOM = 0.2  # sigma of log zoom over a time that nothing was seen
STILL = 1.0  # sigmas: an adjustment that moves the focal length by less has arrived
UNSURE = 4.0  # times the variance of what a window tells in which something moves by itself


@dataclass(frozen=True)
class LocalMap:
    """
    Keyframes, points, and what is believed.

    :param size: (width, height) of the input picture [px].
    :param sigma_px: of a track [px of the input picture].
    :param words: what windows before this one told of the scope.
    :param keyframes: oldest first.
    :param landmarks: the points that they see.
    :param lens_asked: the newest keyframe when it was asked whether the lens bends lines; bent:
        adjustments in a row that said so.
    :param asking: where a bent lens leads so far, while it is tried; where it led if it is not
        shown, until a straight one is tried there; halfway: it is the former.
    :param unsure: the last adjustment is to be freed, see `LensQuestion.freed`.
    :param left_out: ids of points that the last adjustment left out, until it is `completed`.
    :param scope: the best there is now: from the belief and this window; told_at: the newest
        keyframe when an adjustment told it last.
    :param gap: log focal length by which the points are placed, less the one that `scope` tells:
        an earlier window has a say in it; shift: (2,) of the principal point likewise [px].
    :param longest: see `Beliefs`.
    :param log_scale: of depth maps, world over network, as the last windows saw it.
    :param number: which map it is since the epoch began; lengths of two are of two scales.
    :param solution: of the last adjustment; None before the first.
    :param step_covariance: (6, 6) of one frame's step, as it tells; None before the first.
    """

    size: tuple[int, int]
    sigma_px: float
    words: Words
    scope: Scope
    told_at: int = -1
    keyframes: tuple[Keyframe, ...] = ()
    landmarks: Landmarks = field(default_factory=Landmarks)
    lens_asked: int = -1
    bent: int = 0
    asking: Scene | None = None
    halfway: bool = False
    unsure: bool = False
    left_out: np.ndarray | None = None
    gap: float = 0.0
    shift: np.ndarray = field(default_factory=lambda: np.zeros(2))
    longest: float = np.inf
    log_scale: float = 0.0
    number: int = 0
    solution: Solution | None = None
    step_covariance: np.ndarray | None = None

    @property
    def belief(self) -> Scope:
        """What windows before this one told of the scope."""
        return self.words.belief

    @property
    def settled(self) -> bool:
        """Whether an adjustment has little left to do before the next keyframe comes."""
        return len(self.keyframes) == WINDOW or self.belief.number >= 0

    @property
    def arrived(self) -> bool:
        """Whether no adjustment has to go on from where the last one ended."""
        ended = self.solution is None or self.solution.converged or self.settled
        return self.asking is None and ended and not self.unsure

    @property
    def waits(self) -> bool:
        """
        Whether there is something to be `completed` now: not while a lens is asked for, which is
        asked of the same points to the end, nor before an adjustment was freed.
        """
        return self.left_out is not None and self.asking is None and not self.unsure

    @property
    def reference(self) -> float:
        """Log focal length at no zoom, by which the points are placed."""
        return float(self.scope.focal[0]) + self.gap

    @property
    def centre(self) -> np.ndarray:
        """(2,) principal point by which the points are placed [px]."""
        return self.scope.centre + self.shift

    @property
    def _lens(self) -> Lens:
        return Lens(self.centre, self.scope.distortion)

    def seen_from(
        self, T_cam_world: np.ndarray, log_focal: float, places: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where places (N, 3) [mm] are seen from a frame: (N, 2) [px], and their depth (N,)."""
        X = places @ T_cam_world[:3, :3].T + T_cam_world[:3, 3]
        z = X[:, 2]
        image = distorted(X[:, :2] / np.maximum(z, NEAREST_MM)[:, None], self.scope.distortion)
        return self.centre + np.exp(log_focal) * image, z

    def with_keyframe(self, keyframe: Keyframe, log_z: np.ndarray | None = None) -> 'LocalMap':
        """
        Add a keyframe.

        :param log_z: (M,) how deep those of its points stand that are new [log mm]; None: as its
            depth map says.
        """
        if log_z is None:
            log_z = keyframe.log_depth + keyframe.log_scale
        points = keyframe.lifted(self.centre, self.scope.distortion, log_z)
        keyframes = (*self.keyframes, keyframe)[-WINDOW:]
        fresh = self.landmarks.of(keyframe.ids) < 0
        landmarks = self.landmarks.joined(keyframe.ids[fresh], points[fresh])
        alive = np.isin(landmarks.ids, np.concatenate([view.ids for view in keyframes]))
        moved = replace(
            self,
            keyframes=keyframes,
            landmarks=landmarks.kept(alive),
            words=self.words.carried(self.keyframes, keyframes[0]),
            unsure=False,
        )
        return moved._judged() if moved.landmarks.moving.any() else moved

    def adjusted(self) -> 'LocalMap':
        """
        Solve the window, a few iterations at a time; unchanged where it tells nothing yet.

        One call may only ask (`asking`), and the next one then solves; where an adjustment is
        `unsure` the next call frees it.
        """
        picked = self._picked()
        if len(self.keyframes) < FEWEST_VIEWS or len(picked) < FEWEST_SHARED:
            return self
        views = self._views(picked)
        zooms = zoom_doubt(views.pixels, self.sigma_px, self._worse)
        doubt = zooms * (UNSURE if self.landmarks.moving.any() else 1.0)
        now, solution = self._solved(views, self._scene(picked), doubt)
        if solution is None:
            return now
        unsure = is_unsure(solution) and not self.unsure
        return replace(now._taken_over(picked, solution, doubt), unsure=unsure)

    @property
    def _worse(self) -> float:
        """By how much tracks fit worse than usual, 1 and more."""
        return max(1.0, self.solution.pixel_rms / USUAL_RMS) if self.solution else 1.0

    def completed(self) -> 'LocalMap':
        """
        What an adjustment leaves for the frames after it: points that were left out, seen now and
        from another keyframe, go where those see them, and it is said of all which of them move,
        once it can be known what the lens does to them.
        """
        if self.left_out is None or self.solution is None:
            return self.with_nothing_left()
        known, others = self.landmarks, self.landmarks.of(self.left_out)
        others = others[others >= 0]
        if len(others):
            scene = self._scene(others)._replace(shared=self.solution.scene.shared)
            known = known.placed(others, *place_points(self._views(others), scene))
        done = replace(self.with_nothing_left(), landmarks=known)
        return done._judged() if len(self.keyframes) >= TELLING else done

    def with_nothing_left(self) -> 'LocalMap':
        """The same, what waits to be `completed` forgotten."""
        return replace(self, left_out=None)

    def with_nothing_asked(self) -> 'LocalMap':
        """The same, what was asked of the lens and what was to be freed forgotten."""
        return replace(self, asking=None, halfway=False, unsure=False)

    def _solved(
        self, views: Views, scene: Scene, doubt: float
    ) -> tuple['LocalMap', Solution | None]:
        """
        Adjust through the lens that is told so far, or ask which one it is: at each keyframe while
        the map is young; later once a whole window of adjustments has contradicted, for one may be
        misled by tissue that moves.

        :return: the map that knows what was asked, and the solution; None where it is still
            `asking`, or freed in vain.
        """
        now = self.with_nothing_asked()
        number, told = self.keyframes[-1].number, self.scope.distortion
        beliefs = self._beliefs(doubt) if np.isfinite(doubt) else self._held()
        question = LensQuestion(
            views, scene, beliefs, self.belief, doubt, self._numbers, bool(told)
        )
        if self.unsure:
            return now, question.freed()
        if question.has_one_answer:
            return now, question.as_told()
        same = self.lens_asked == number  # or a keyframe came
        if self.asking and self.halfway and same:
            return now._asked(question, self.asking, begun=True)
        if self.asking and not self.halfway:
            return now, question.straightened(self.asking if same else scene)
        young = self.lens_asked < 0 or not self.settled
        if not young or same:
            answer = question.as_told()
            bent = self.bent + 1 if question.bends(answer) else 0
            contradicted = not bent if told else bent > WINDOW
            if young or not contradicted:
                return replace(now, bent=bent), answer
        return now._asked(question, question.through(told or float(self.belief.lens[2])))

    def _asked(
        self, question: LensQuestion, scene: Scene, begun: bool = False
    ) -> tuple['LocalMap', Solution | None]:
        """The end of `_solved` where a bent lens is tried from that scene on, in two goes."""
        solution = question.bent(scene)
        halfway = not solution.converged and not begun
        now = replace(self, lens_asked=self.keyframes[-1].number)
        if not halfway and question.shown(solution):
            return now, solution
        return replace(now, asking=solution.scene, halfway=halfway), None

    def _judged(self) -> 'LocalMap':
        """
        Say again of the newest keyframe's points which of them move; where none did before,
        earlier windows were misled.
        """
        known, newest = self.landmarks, self.keyframes[-1]
        row, moving = known.of(newest.ids), known.moving.copy()
        moving[row] = rigid.strays(newest.pixels, known.misfit[row], moving[row])
        misled = moving.any() and not known.moving.any()
        words = Words(self.belief) if misled else self.words
        return replace(self, landmarks=replace(known, moving=moving), words=words)

    def informed(self, log_focal: float, sigma: float) -> 'LocalMap':
        """After somebody else measured the focal length now; what is seen stays where it is."""
        scope = self.scope.measured(log_focal, sigma)
        moved = float(scope.focal.sum() - self.scope.focal.sum())
        keyframes = [replace(view, log_focal=view.log_focal + moved) for view in self.keyframes]
        lens = Lens(scope.centre + self.shift, scope.distortion)
        nobody = np.zeros(0, int)
        known = self.landmarks
        landmarks = with_others_carried(
            known, nobody, known.places, self.keyframes, keyframes, self._lens, lens
        )
        return replace(
            self,
            words=self.words.measured(log_focal, sigma, self.keyframes),
            scope=scope,
            keyframes=tuple(keyframes),
            landmarks=landmarks,
            asking=None,
        )

    def doubted(self, doubt: float) -> 'LocalMap':
        """What it told of the log focal length may be off by so much (sigma)."""
        lever = np.array([doubt, 0.0, 0.0, 0.0, 0.0])
        return replace(self, scope=self.scope.doubted(lever))

    def forgotten(self, zoomed: float = 0.0, sigma: float = LOOSE_ZOOM) -> 'LocalMap':
        """
        An empty map that knows the scope and what depth maps are worth.

        :param zoomed: by how much log zoom is larger now than at the newest keyframe, sigma of it;
            default: for a time that nothing was seen.
        """
        if not self.keyframes:
            return self
        scope = self.scope.zoomed(zoomed, sigma**2)
        return LocalMap(
            self.size,
            self.sigma_px,
            Words(scope),
            scope,
            lens_asked=self.lens_asked,
            log_scale=self.log_scale,
            longest=self.longest,
        )

    def _picked(self) -> np.ndarray:
        """Rows of the landmarks that are adjusted: shared ones that do not move."""
        row = self.landmarks.of(
            shared_points(self.keyframes, self.landmarks.ids[self.landmarks.moving])
        )
        return row[row >= 0]

    def _views(self, picked: np.ndarray) -> Views:
        known = self.landmarks.kept(picked)
        return views_of(self.keyframes, known.ids, known.track_sigma, self.size, self.sigma_px)

    def _beliefs(self, doubt: float = 1.0) -> Beliefs:
        believed = self.belief.scaled(1.0 / overrated(self.belief, doubt))
        return Beliefs(
            lens=believed.lens,
            lens_covariance=believed.covariance,
            straight=not self.scope.distortion,
            log_scale=self.log_scale,
            log_scale_sigma=SCALE_SIGMA,
            scale_flicker=FLICKER,
            bend_sigma=BEND_SIGMAS,
            relief_sigma=RELIEF_SIGMA,
            longest=self.longest,
        )

    def _held(self) -> Beliefs:
        """The beliefs of a window that tells no focal length: reference and distortion hold."""
        reference = self.reference
        zoom = self.keyframes[0].log_focal - reference
        believed = replace(self.belief, distortion=self.scope.distortion)
        covariance = believed.covariance.copy()
        covariance[:3] = covariance[:, :3] = 0.0
        covariance[np.diag_indices(3)] = TIED**2, CARRIED_ZOOM**2, TIED**2
        return replace(
            self._beliefs(),
            lens=np.array([reference, zoom, self.scope.distortion, *believed.centre]),
            lens_covariance=covariance,
            longest=np.inf,
        )

    def _scene(self, picked: np.ndarray) -> Scene:
        views = self.keyframes
        shared = np.zeros(SHARED)
        shared[CENTRE] = self.centre
        shared[REFERENCE], shared[DISTORTION] = self.reference, self.scope.distortion
        if self.solution is not None:
            shared[BENDS] = self.solution.scene.shared[BENDS]
        return Scene(
            R=np.stack([view.R for view in views]),
            t=np.stack([view.t for view in views]),
            log_focal=np.array([view.log_focal for view in views]),
            log_scale=np.array([view.log_scale for view in views]),
            shared=shared,
            points=self.landmarks.places[picked],
        )

    def _taken_over(self, picked: np.ndarray, solution: Solution, doubt: float) -> 'LocalMap':
        """
        The map after an adjustment, its world's scale kept as the points before had it.

        :param doubt: of `zoom_doubt`; infinite: the window told nothing of the focal length.
        """
        told, solution = with_zoom_told(self.keyframes, solution)
        scene = solution.scene
        home = -scene.R[0].T @ scene.t[0]
        before = np.linalg.norm(self.landmarks.places[picked] - home, axis=1)
        after = np.linalg.norm(scene.points - home, axis=1)
        weight = solution.weights.max(axis=1)
        good = weight >= 0.5 * np.median(weight)
        grown = float(np.median(np.log(before[good] / after[good])))
        stretch = np.exp(grown)
        places = home + stretch * (scene.points - home)
        landmarks = self.landmarks.placed(picked, places, solution.track_sigma, solution.misfit)
        centre = scene.shared[CENTRE]
        lens = Lens(centre, float(scene.shared[DISTORTION]))
        keyframes = []
        for k, view in enumerate(told):
            place = home + stretch * (-scene.R[k].T @ scene.t[k] - home)
            keyframes.append(
                replace(
                    view,
                    R=scene.R[k],
                    t=-scene.R[k] @ place,
                    log_focal=float(scene.log_focal[k]),
                    log_scale=float(scene.log_scale[k]) + grown,
                )
            )
        moved = replace(
            self,
            keyframes=tuple(keyframes),
            landmarks=with_others_carried(
                landmarks,
                picked,
                self.landmarks.places,
                self.keyframes,
                keyframes,
                self._lens,
                lens,
            ),
            left_out=self._left_out(picked),
            log_scale=float(scene.log_scale.mean()) + grown,
            told_at=keyframes[-1].number,
            solution=solution,
            step_covariance=step_covariance(solution, keyframes[-1].number - keyframes[0].number),
            words=self.words.before(keyframes[-1].number),
        )
        if np.isinf(doubt):
            zoomed = keyframes[-1].log_focal - self.gap - float(self.scope.focal.sum())
            before_it = [view.number for view in self.keyframes if view.number <= self.told_at]
            variance = zoom_variance(solution, max(len(before_it) - 1, 0))
            scope = self.scope.zoomed(zoomed, variance)
            return replace(moved, scope=scope, shift=centre - scope.centre)
        scope = scope_told(solution, self.belief, doubt, self._numbers)
        stirred = abs(scope.focal[0] - self.reference) / np.sqrt(scope.focal_covariance[0, 0])
        arrived = solution.converged or stirred < STILL
        best = moved.words.averaged_with(scope, solution, keyframes)
        if arrived:
            moved = replace(moved, words=moved.words.with_word(scope))
        gap = keyframes[-1].log_focal - float(best.focal.sum())
        return replace(moved, scope=best, gap=gap, shift=centre - best.centre)

    def _left_out(self, picked: np.ndarray) -> np.ndarray:
        """
        Ids of points that were not adjusted, seen now and from another keyframe.

        :param picked: rows of those that were.
        """
        *before, newest = self.keyframes
        ids = np.setdiff1d(newest.ids, self.landmarks.ids[picked], assume_unique=True)
        return ids[np.isin(ids, np.concatenate([view.ids for view in before]))]

    @property
    def _numbers(self) -> list[int]:
        return [view.number for view in self.keyframes]
