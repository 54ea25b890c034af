# SPDX-License-Identifier: Apache-2.0
"""
Sparse tracks to motion: corners followed by optical flow, then PnP on the previous frame's depth.
"""

from typing import Any

import cv2
import numpy as np

from endosfm3d_ros.core.frame import Intrinsics, Motion
from endosfm3d_ros.core.geometry import inverse, motion_from_vector, skew, unproject_pixels
from endosfm3d_ros.core.picture.inside import Inside
from endosfm3d_ros.core.tracking.warp import Warp

DARKEST = 4.0  # grey levels added before the logarithm
FINE_PX, COARSE_PX = 2.0, 4.0  # sigma of the blurs that take shading, then contrast, away
LEAST_CONTRAST = 0.01  # of log brightness: what is flatter than this is noise
WANTED = 400  # tracks alive
REFILL = 0.7  # new corners are looked for when fewer than this share is left
SPACING_PX = 7  # between corners
RIM_PX = 8  # corners keep off the field stop's rim ...
HIGHLIGHT_LEVEL = 240  # ... and off wet highlights, which do not move with the tissue
HIGHLIGHT_PX = 5
HOME_PX = 0.5  # a track must come home this well when followed backwards
SLIDE_PX = 0.45  # so far a track may have slid off its anchor's patch in one frame
ALIKE = 0.8  # of the other's sharpness: a picture that has less is blurred, and fits anywhere
AGAIN_PX, AGAIN_MISFIT = 2.0, 1.6  # so near to where it ought to be, and fitting so well
SCOUTS = 48  # tracks, and fewer than twice as many, tell how the picture moved at large
MISFIT = 2.5  # medians: a patch that fits worse is another one
LEAST_MISFIT = 1.0  # grey levels, of a median: a picture that comes twice has none
REPROJECTION_PX = 1.5  # an inlier's distance at most
MIN_INLIERS = 12
PIXEL_SIGMA = 0.3  # what a track is known to at least [px]
UNKNOWN_MM, UNKNOWN_RAD = 10.0, 0.25  # standard deviation of a second of which nothing is known
_WINDOW: dict[str, Any] = {
    'winSize': (13, 13),
    'maxLevel': 3,
    'criteria': (3, 20, 0.02),
    'minEigThreshold': 1e-4,
}
_CLOSE: dict[str, Any] = {
    **_WINDOW,
    'maxLevel': 1,
    'criteria': (3, 10, 0.05),
}
_NEAR: dict[str, Any] = {
    **_WINDOW,
    'winSize': (15, 15),
    'maxLevel': 0,
    'criteria': (3, 20, 0.01),
}


_LOG = np.log(np.arange(256, dtype=np.float32) + np.float32(DARKEST))


def texture(grey: np.ndarray, inside: Inside) -> np.ndarray:
    """
    What of a picture belongs to the tissue: log brightness less its shading, at even contrast.

    The light travels with the scope, so shading moves with the camera and drags tracks along: on
    rendered worlds a track is off by 0.73 px after 12 frames of the grey picture, by 0.27 of this.

    What is no picture has no say in it (Knutsson and Westin 1993, normalised convolution): its
    edge would drag along what lies beside it.

    :param grey: (h, w) uint8; inside: the field of view.
    :return: (h, w) uint8 about 128; 128 outside.
    """
    brightness = cv2.LUT(grey, _LOG)
    if inside.everywhere:
        detail = brightness - cv2.GaussianBlur(brightness, (0, 0), FINE_PX)
        contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), COARSE_PX))
    else:
        lit = brightness * inside.as_float
        detail = inside.as_float * (brightness - inside.blurred(lit, FINE_PX))
        contrast = np.sqrt(inside.blurred(detail * detail, COARSE_PX))
    return np.clip(128.0 + 40.0 * detail / (contrast + LEAST_CONTRAST), 0, 255).astype(np.uint8)


def unknown_motion(dt: float) -> Motion:
    """
    Make the step of which nothing is known: the camera is held and its covariance grows.

    :param dt: its duration [s].
    """
    covariance = np.diag([UNKNOWN_MM**2 * dt] * 3 + [UNKNOWN_RAD**2 * dt] * 3)
    return Motion(np.eye(4), covariance, known=False)


def no_motion() -> Motion:
    """The first step of an epoch: the identity, by definition."""
    return Motion(np.eye(4), np.zeros((6, 6)), known=True)


def trackable(picture: np.ndarray, inside: Inside) -> np.ndarray:
    """
    Where corners may be taken: inside the field of view, off its rim and off highlights.

    :param picture: (h, w, 3) uint8 RGB; inside: the field of view.
    :return: (h, w) uint8, 255 where allowed.
    """
    red, green, blue = cv2.split(picture)
    darkest = cv2.min(cv2.min(red, green), blue)
    highlight = (darkest >= HIGHLIGHT_LEVEL).astype(np.uint8)
    wide = cv2.dilate(highlight, np.ones((HIGHLIGHT_PX, HIGHLIGHT_PX), np.uint8))
    return ((inside.from_edge > RIM_PX) & (wide == 0)).astype(np.uint8) * 255


def refill(grey: np.ndarray, allowed: np.ndarray, points: np.ndarray) -> np.ndarray:
    """
    Keep the tracks alive and add corners (Shi and Tomasi 1994) away from them when they have
    become few.

    :param grey: (h, w) uint8.
    :param allowed: (h, w) uint8 of `trackable`.
    :param points: (N, 2) float32 tracks [px].
    :return: (M, 2) float32, the old ones that may stay first.
    """
    height, width = grey.shape
    at = np.rint(points).astype(int)
    inside = (at[:, 0] >= 0) & (at[:, 0] < width) & (at[:, 1] >= 0) & (at[:, 1] < height)
    points, at = points[inside], at[inside]
    stay = allowed[at[:, 1], at[:, 0]] > 0
    points, at = points[stay], at[stay]
    if len(points) >= REFILL * WANTED:
        return points
    return np.concatenate([points, corners(grey, allowed, points, WANTED - len(points))])


def corners(
    picture: np.ndarray, allowed: np.ndarray, taken: np.ndarray, wanted: int
) -> np.ndarray:
    """
    Find corners (Shi and Tomasi 1994) away from points that are followed already.

    :param picture: (h, w) uint8; allowed: (h, w) uint8 of `trackable`.
    :param taken: (N, 2) inside the picture [px]; wanted: so many at most.
    :return: (M, 2) float32 [px].
    """
    free = allowed.copy()
    for u, v in np.rint(taken).astype(int):
        cv2.circle(free, (int(u), int(v)), SPACING_PX, 0, -1)
    fresh: Any = None
    if wanted > 0:
        fresh = cv2.goodFeaturesToTrack(picture, wanted, 0.01, SPACING_PX, mask=free, blockSize=5)
    return np.zeros((0, 2), np.float32) if fresh is None else fresh.reshape(-1, 2)


def follow(
    before: np.ndarray, now: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """
    Follow points from one grey picture to the next and back (pyramidal Lucas-Kanade).

    :param before: (h, w) uint8.
    :param now: (h, w) uint8.
    :param points: (N, 2) float32 in `before` [px].
    :return: (N, 2) float32 in `now` [px], and (N,) bool: followed, and came home.
    """
    if not len(points):
        return points, np.zeros(0, bool)
    there, found, _ = _lucas_kanade(before, now, points, points, _WINDOW)
    back, returned, _ = _lucas_kanade(now, before, there, there, _WINDOW)
    return there, found & returned & (np.linalg.norm(back - points, axis=1) < HOME_PX)


def follow_from(
    anchor: np.ndarray,
    anchored: np.ndarray,
    before: np.ndarray,
    now: np.ndarray,
    points: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Follow points from one grey picture to the next, and put each back on the patch that it had in
    an older picture, its anchor.

    Followed from frame to frame a track slides off its patch, most of all where the camera
    advances and the patch grows. So the new picture is warped as the tracks moved all in all,
    which undoes zoom, turn, perspective and smooth relief, and each track is put where the patch
    of its anchor fits (against drift: Matthews et al. 2004, the template update problem). That the
    two agree takes the place of following backwards. On films that advance a track is off by
    0.22 px after 24 frames instead of 0.94, and 6 % of the tracks went astray instead of 33.

    :param anchor: (h, w) uint8, the older picture; anchored: (N, 2) float32 the points in it [px].
    :param before: (h, w) uint8, the picture before; points: (N, 2) float32 in it [px].
    :param now: (h, w) uint8.
    :return: (N, 2) float32 in `now` [px], and (N,) bool: followed, and on the anchor's patch.
    """
    if not len(points):
        return points, np.zeros(0, bool)
    there, ok = _scouted(before, now, points)
    warp = Warp.fitted(anchored[ok], there[ok], anchor.shape[::-1])
    held, fits, error = _on_patches(anchor, now, anchored, there, warp)
    ok &= fits & (np.linalg.norm(held - there, axis=1) < SLIDE_PX)
    if ok.any():
        ok &= error <= MISFIT * max(float(np.median(error[ok])), LEAST_MISFIT)
    return held.astype(np.float32), ok


def _scouted(
    before: np.ndarray, now: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """
    Follow points roughly: a few from far, the others from where those say they are by now.

    Pyramids' upper levels cost more than all that comes after, and tell the same for every point.

    :return: (N, 2) float32 in `now` [px], and (N,) bool: found.
    """
    scouts = points[:: max(1, len(points) // SCOUTS)]
    seen, found, _ = _lucas_kanade(before, now, scouts, scouts, _WINDOW)
    warp = Warp.fitted(scouts[found], seen[found], before.shape[::-1])
    there, found, _ = _lucas_kanade(before, now, points, warp(points), _CLOSE)
    return there, found


def find_again(
    anchor: np.ndarray,
    anchored: np.ndarray,
    now: np.ndarray,
    expected: np.ndarray,
    alive: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Look for points that were lost where they ought to be by now: behind an instrument that went
    by, smoke, a blur (guided search, Klein and Murray 2007).

    :param anchor: (h, w) uint8, an older picture; anchored: (N, 2) float32 points in it [px].
    :param now: (h, w) uint8; expected: (N, 2) float32 where they should be in it [px].
    :param alive: (N,) bool, points that were never lost: how well these fit is how well others
        must.
    :return: (N, 2) float32 in `now` [px], and (N,) bool: lost ones that are there again.
    """
    if not alive.any():
        return expected, np.zeros(len(expected), bool)
    if not alike(anchor, anchored[alive], now, expected[alive]):
        return expected, np.zeros(len(expected), bool)
    warp = Warp.fitted(anchored, expected, anchor.shape[::-1])
    held, fits, error = _on_patches(anchor, now, anchored, expected, warp)
    near = np.linalg.norm(held - expected, axis=1) < AGAIN_PX
    ok = fits & near & ~alive & (error <= AGAIN_MISFIT * np.median(error[alive]))
    return held.astype(np.float32), ok


def alike(picture: np.ndarray, points: np.ndarray, other: np.ndarray, there: np.ndarray) -> bool:
    """Whether two pictures are about as sharp, at points (N, 2) of one and (M, 2) of the other."""
    if not len(points) or not len(there):
        return False
    least, most = sorted((_sharpness(picture, points), _sharpness(other, there)))
    return least >= ALIKE * most


def _sharpness(picture: np.ndarray, points: np.ndarray) -> float:
    """How steep edges are about points (N, 2) of a picture, in the mean [levels / px]."""
    steep = np.abs(cv2.Sobel(picture, cv2.CV_32F, 1, 0, scale=1 / 8))
    there = cv2.blur(steep, _NEAR['winSize'])
    u, v = np.rint(points).astype(int).T
    height, width = picture.shape
    return float(there[np.clip(v, 0, height - 1), np.clip(u, 0, width - 1)].mean())


def _on_patches(
    anchor: np.ndarray, now: np.ndarray, anchored: np.ndarray, there: np.ndarray, warp: Warp
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Where near `there` the anchor's patches fit, once `now` is warped back: places (N, 2) [px],
    whether they were found, and how ill each fits.
    """
    undone = cv2.remap(now, *warp.pixels(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    guess = warp.back(anchored, there)
    found, fits, error = _lucas_kanade(anchor, undone, anchored, guess, _NEAR)
    return warp(found), fits, error


def _lucas_kanade(
    before: np.ndarray,
    now: np.ndarray,
    points: np.ndarray,
    guess: np.ndarray,
    how: dict[str, Any],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in `now` (N, 2) [px], whether they were found, and how ill each patch fits."""
    start: Any = points.astype(np.float32).reshape(-1, 1, 2)
    there: Any = guess.astype(np.float32).reshape(-1, 1, 2).copy()
    flags = cv2.OPTFLOW_USE_INITIAL_FLOW
    there, found, error = cv2.calcOpticalFlowPyrLK(before, now, start, there, flags=flags, **how)
    return there.reshape(-1, 2), found.ravel() > 0, error.ravel()


def motion_from_tracks(
    before: np.ndarray,
    now: np.ndarray,
    depth_before: np.ndarray,
    camera_before: Intrinsics,
    camera: Intrinsics,
    dt: float,
) -> tuple[Motion, np.ndarray]:
    """
    The camera's step by PnP with RANSAC (Lepetit et al. 2009) on the previous frame's depth.

    The two cameras may differ: under zoom points are lifted with the old K and seen with the new
    one.

    :param before: (N, 2) tracks in the previous network picture [px].
    :param now: (N, 2) the same in this one [px].
    :param depth_before: (h, w) float32 previous z-depth [mm], NaN where unknown.
    :param camera_before: intrinsics of the previous network picture.
    :param camera: intrinsics of this one.
    :param dt: time between the two [s].
    :return: the motion (its covariance is that of the tracks alone: what errors of depth's scale
        and of the focal length add is common to all steps, and the trajectory's affair), and (N,)
        bool: tracks that agree with it.
    """
    height, width = depth_before.shape
    u = np.clip(np.rint(before[:, 0]).astype(int), 0, width - 1)
    v = np.clip(np.rint(before[:, 1]).astype(int), 0, height - 1)
    z = depth_before[v, u]
    known = np.flatnonzero(np.isfinite(z))
    agree = np.zeros(len(before), bool)
    if len(known) < MIN_INLIERS:
        return unknown_motion(dt), agree
    points = unproject_pixels(before[known], z[known].astype(np.float64), camera_before)
    pixels = now[known].astype(np.float64)
    found, r, t, inliers = cv2.solvePnPRansac(
        points,
        pixels,
        camera.matrix,
        None,
        iterationsCount=100,
        reprojectionError=REPROJECTION_PX,
        confidence=0.999,
    )
    if not found or inliers is None or len(inliers) < MIN_INLIERS:
        return unknown_motion(dt), agree
    pick = inliers.ravel()
    r, t = cv2.solvePnPRefineLM(points[pick], pixels[pick], camera.matrix, None, r, t)
    T_cam_prev = motion_from_vector(r, t)
    if not np.isfinite(T_cam_prev).all():
        return unknown_motion(dt), agree
    agree[known[pick]] = True
    T_prev_cam = inverse(T_cam_prev)
    covariance = _covariance(
        points[pick], pixels[pick], T_cam_prev, camera, len(pick) / len(known)
    )
    return Motion(T_prev_cam, covariance, known=True, inliers=len(pick)), agree


def _covariance(
    points: np.ndarray,
    pixels: np.ndarray,
    T_cam_prev: np.ndarray,
    camera: Intrinsics,
    inlier_share: float,
) -> np.ndarray:
    """
    Covariance of the step as a small motion of this camera in its own frame: s^2 (J^T J)^-1 /
    inlier share.

    A small motion (p, r) of the camera moves a point X of its frame by -p + [X]x r.
    """
    X = points @ T_cam_prev[:3, :3].T + T_cam_prev[:3, 3]
    z = X[:, 2]
    d_pixel = np.zeros((len(X), 2, 3))
    d_pixel[:, 0, 0], d_pixel[:, 0, 2] = camera.fx / z, -camera.fx * X[:, 0] / z**2
    d_pixel[:, 1, 1], d_pixel[:, 1, 2] = camera.fy / z, -camera.fy * X[:, 1] / z**2
    d_point = np.concatenate([np.broadcast_to(-np.eye(3), (len(X), 3, 3)), skew(X)], axis=2)
    J = (d_pixel @ d_point).reshape(-1, 6)
    predicted = np.stack(
        [camera.fx * X[:, 0] / z + camera.cx, camera.fy * X[:, 1] / z + camera.cy], 1
    )
    variance = float(((predicted - pixels) ** 2).sum() / max(2 * len(X) - 6, 1))
    variance = max(variance, PIXEL_SIGMA**2)
    return variance * np.linalg.pinv(J.T @ J, hermitian=True) / max(inlier_share, 0.05)
