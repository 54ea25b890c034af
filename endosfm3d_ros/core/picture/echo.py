# SPDX-License-Identifier: Apache-2.0
"""
What a camera's temporal noise reduction mixes into its pictures is measured, and taken out again.

A recursive filter sends x = (1 - share) y + share x', where y is what the sensor saw and x' the
picture that was sent before. Where the picture moves it leaves an echo: each detail is there once
more, fainter, where it was a picture ago. Tracks follow a mixture of both, which lags behind by
the more the slower it moves, so that near and far, and with them the focal length, are misjudged.
The echo is heard within one picture: its autocorrelation has a peak at the way that its content
went, for which neither exposure nor texture has a reason.
"""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from endosfm3d_ros.core.picture.inside import Inside
from endosfm3d_ros.core.tracking.followed import Followed
from endosfm3d_ros.core.tracking.sight import values_at
from endosfm3d_ros.core.window.placed import NEW_MAP

PLACES = 24  # tracks at most where it is listened at once
EVERY = 12  # pictures, once enough was heard
SHORTEST_PX, LONGEST_PX = 6.0, 60.0  # ways by which an echo stands apart
HALF_PX = 8  # half a patch
FINE_PX, FINE_REACH = 1.5, 4  # sigma of the blur that detail is left over from, and its reach
AFAR = (0.65, 1.35)  # of the way: where a texture is as like itself, and no echo is
USUAL_WIDTH = 1280  # columns; larger pictures are softer, and made smaller
EDGE_PX = 8.0  # places keep off the rim [network px]
LEAST_ENERGY = 100.0  # of a patch's detail: noise of half a grey level
FADES = 0.98  # what was heard before, each time that more is heard
ENOUGH = 60  # patches
LEAST, MOST = 0.18, 0.7  # shares that are undone; textures of films have passed for 0.14
SURE = 3.0  # sigmas
STRIDE = 8  # every so many pixels are compared, each way
SUCCESSIVE = 1.5  # usual steps: after a longer one a picture is missing
STEPS = 15  # that tell the usual one
MISLED = 0.1  # by what unheard echoes misled the log focal length (sigma)


@dataclass(frozen=True)
class Echo:
    """
    What was heard so far.

    :param share: how much of each picture is the one before; 0 while that is not sure, or next to
        none.
    :param count: patches, faded; sums: (3,) over them of the polynomial in the share that is 0 at
        the true one (`heard`); squares: of its constant.
    :param pictures: since the beginning.
    :param steps_s: the last steps from picture to picture [s].
    """

    share: float = 0.0
    count: float = 0.0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(3))
    squares: float = 0.0
    pictures: int = 0
    steps_s: tuple[float, ...] = ()

    def stepped(self, step_s: float) -> 'Echo':
        """After another picture; step_s since the one before [s]."""
        steps = (*self.steps_s, step_s)[-STEPS:]
        return replace(self, pictures=self.pictures + 1, steps_s=steps)

    @property
    def follows(self) -> bool:
        """Whether the newest picture came right after the one before."""
        steps = self.steps_s
        return bool(steps) and steps[-1] < SUCCESSIVE * float(np.median(steps))

    @property
    def listens(self) -> bool:
        """Whether it is time to listen."""
        return self.follows and (self.count < ENOUGH or self.pictures % EVERY == 0)

    @property
    def undoes(self) -> bool:
        """Whether there is something to take out of the newest picture, and the one before."""
        return self.share > 0 and self.follows

    @staticmethod
    def same(picture: np.ndarray, before: np.ndarray) -> bool:
        """Whether a picture (H, W, 3) is the one before once more, in which nothing is mixed."""
        return np.array_equal(picture[::STRIDE, ::STRIDE], before[::STRIDE, ::STRIDE])

    def undone(self, picture: np.ndarray, before: np.ndarray) -> np.ndarray:
        """
        What the sensor saw.

        :param picture: (h, w, 3) uint8, the newest one as it came; before: the one before it.
        """
        share = self.share
        return cv2.addWeighted(picture, 1 / (1 - share), before, -share / (1 - share), 0)

    def heard(self, before: np.ndarray, now: np.ndarray, went: 'Went') -> 'Echo':
        """
        Listen where points moved.

        With detail X of this picture, B of the one before, and lag d back along a point's way,
        the sensor's own detail is X - share B up to a factor, and the echo that is left in it the
        correlation of that with itself at d, less what a texture has without an echo: the mean of
        those at lags a third shorter and longer.

        :param before: (H, W, 3) uint8 RGB, the picture before as it came; now: this one.
        """
        shrink = _shrink(now.shape[1])
        points, there = (_shrunk(one, shrink) for one in (went.before, went.now))
        way = np.linalg.norm(points - there, axis=1)
        far = np.flatnonzero((way >= SHORTEST_PX) & (way <= LONGEST_PX))
        if not len(far):
            return self
        far = far[:: 1 + (len(far) - 1) // PLACES]
        there, back = there[far], (points - there)[far]
        before, now = _green(before, shrink), _green(now, shrink)
        X, B = _detail(now, there), _detail(before, there)
        energy = _dot(X, X)
        found = np.zeros((len(there), 3))
        for lag, weight in ((1.0, 1.0), *((lag, -1 / len(AFAR)) for lag in AFAR)):
            X_back, B_back = (_detail(one, there + lag * back) for one in (now, before))
            norm = np.sqrt(energy * _dot(X_back, X_back)) + LEAST_ENERGY
            terms = _dot(X, X_back), -_dot(X, B_back) - _dot(B, X_back), _dot(B, B_back)
            found += weight * np.stack(terms, axis=1) / norm[:, None]
        now_heard = replace(
            self,
            count=FADES * self.count + len(found),
            sums=FADES * self.sums + found.sum(axis=0),
            squares=FADES * self.squares + float((found[:, 0] ** 2).sum()),
        )
        return replace(now_heard, share=now_heard._decided())

    def events(self, before: 'Echo') -> tuple[str, ...]:
        """What is new since before, for a person."""
        if not self.turned(before):
            return ()
        if not self.share:
            return (f'no noise reduction is undone any more: {NEW_MAP}',)
        return (
            f'the camera mixes some {100 * self.share:.0f} % of the picture before into each '
            '(temporal noise reduction): better switch it off there; it is undone as far as no '
            f'picture is missing, and {NEW_MAP}',
        )

    def turned(self, before: 'Echo') -> bool:
        """Whether from here on pictures are other ones: undone where they were not, or not."""
        return (self.share > 0) != (before.share > 0)

    def _decided(self) -> float:
        """The share that is undone from here on; one that is undone already needs less."""
        if self.count < ENOUGH:
            return self.share
        share, sigma = self._solved()
        least = LEAST / 2 if self.share else LEAST + SURE * sigma
        return min(share, MOST) if share > least else 0.0

    def _solved(self) -> tuple[float, float]:
        """The share where the polynomial is 0, and its standard deviation."""
        constant, slope, bend = self.sums / self.count
        root = slope * slope - 4 * bend * constant
        if slope >= 0 or root < 0:
            return 0.0, 1.0
        share = 2 * constant / (-slope + np.sqrt(root))  # the smaller root
        variance = max(self.squares / self.count - constant**2, 0.0) / self.count
        return float(share), float(np.sqrt(variance) / -slope)


@dataclass(frozen=True)
class Went:
    """Points (N, 2): where they were in the input picture before, and where they are now [px]."""

    before: np.ndarray
    now: np.ndarray

    @classmethod
    def of(cls, before: Followed, now: Followed, inside: Inside) -> 'Went':
        """
        Where tracks went from one picture to the next.

        :param inside: what of the network picture shows the scene; what lies too near to its edge
            is left out.
        """
        if before.window is None or now.window is None:
            return cls(np.zeros((0, 2)), np.zeros((0, 2)))
        _, rows, rows_now = np.intersect1d(before.ids, now.ids, True, True)
        points = before.window.input_pixels(before.points[rows])
        there = now.window.input_pixels(now.points[rows_now])
        farthest = now.window.network_pixels(there + max(AFAR) * (points - there))
        height, width = inside.mask.shape
        seen = np.all((farthest >= 0) & (farthest <= (width - 1, height - 1)), axis=1)
        for places in (farthest, now.points[rows_now]):
            seen &= values_at(inside.from_edge, places) > EDGE_PX
        return cls(points[seen], there[seen])


def _shrink(width: int) -> int:
    return max(1, round(width / USUAL_WIDTH))


def _shrunk(points: np.ndarray, shrink: int) -> np.ndarray:
    return (points + 0.5) / shrink - 0.5


def _green(picture: np.ndarray, shrink: int) -> np.ndarray:
    """The channel with the most detail, (H, W) uint8, of a picture made smaller."""
    green = cv2.extractChannel(picture, 1)
    height, width = green.shape
    size = (width // shrink, height // shrink)
    return cv2.resize(green, size, interpolation=cv2.INTER_AREA) if shrink > 1 else green


def _detail(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """What of patches about places (N, 2) [px] is finer than a blur: (N, side * side) float32."""
    reach = np.arange(-HALF_PX - FINE_REACH, HALF_PX + FINE_REACH + 1)
    count, side = len(places), len(reach)
    u = np.broadcast_to(places[:, 0, None, None] + reach, (count, side, side))
    v = np.broadcast_to(places[:, 1, None, None] + reach[:, None], (count, side, side))
    flat = (count * side, side)
    maps = u.reshape(flat).astype(np.float32), v.reshape(flat).astype(np.float32)
    patches = cv2.remap(picture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    values = patches.reshape(count, side, side).astype(np.float32)
    inner = values[:, FINE_REACH:-FINE_REACH, FINE_REACH:-FINE_REACH]
    return (inner - _BLUR @ values @ _BLUR.T).reshape(count, -1)


def _blur() -> np.ndarray:
    """Rows of a Gaussian's weights, that take a patch's margin away."""
    weights = cv2.getGaussianKernel(2 * FINE_REACH + 1, FINE_PX, cv2.CV_32F).ravel()
    side = 2 * HALF_PX + 1
    rows = np.zeros((side, side + 2 * FINE_REACH), np.float32)
    for row in range(side):
        rows[row, row : row + len(weights)] = weights
    return rows


_BLUR = _blur()


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of rows, (N,)."""
    return np.einsum('ij,ij->i', a, b)
