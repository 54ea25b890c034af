# SPDX-License-Identifier: Apache-2.0
"""The demo clip that the package carries agrees with its truth."""

from pathlib import Path

import cv2
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / 'endosfm3d_ros' / 'demo_clip'
FRAMES = 250


@pytest.fixture(scope='module')
def truth() -> dict[str, np.ndarray]:
    with np.load(FOLDER / 'truth.npz', allow_pickle=False) as stored:
        return dict(stored)


@pytest.fixture(scope='module')
def frames() -> list[np.ndarray]:
    video = cv2.VideoCapture(str(FOLDER / 'clip.mp4'))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(25.0)
    out = []
    while True:
        good, frame = video.read()
        if not good:
            return out
        out.append(frame)


def depth(n: int) -> np.ndarray:
    stored = cv2.imread(str(FOLDER / 'depth' / f'{n:04d}.png'), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    return np.where(stored > 0, stored / 256.0, np.nan)


def test_every_frame_has_a_picture_and_its_truth(frames, truth):
    assert len(frames) == FRAMES
    assert {f.shape for f in frames} == {(512, 640, 3)}
    assert {k: v.shape for k, v in truth.items()} == {
        'K': (FRAMES, 3, 3),
        'T_world_cam': (FRAMES, 4, 4),
        'stamps': (FRAMES,),
        'circle': (FRAMES, 3),
    }
    assert np.allclose(np.diff(truth['stamps']), 0.04)
    names = sorted(p.name for p in (FOLDER / 'depth').iterdir())
    assert names == [f'{n:04d}.png' for n in range(0, FRAMES, 5)]


def test_the_clip_and_its_truth_stay_small():
    size = sum(p.stat().st_size for p in FOLDER.rglob('*') if p.is_file())
    assert size <= 3_000_000


def test_the_circle_scales_with_the_focal_length_and_the_zoom_goes_up_and_down(truth):
    focal = truth['K'][:, 0, 0]
    assert focal[0] == pytest.approx(0.6 * 640)
    assert truth['circle'][:, 2] / truth['circle'][0, 2] == pytest.approx(focal / focal[0])
    zoom = focal / focal[0]
    assert zoom.max() == pytest.approx(1.6)
    assert zoom[-1] == pytest.approx(1.2)
    assert np.abs(np.diff(zoom)).max() * 25.0 <= 0.5


@pytest.mark.parametrize('n', [0, 60, 245])
def test_outside_the_circle_the_picture_is_black_and_the_depth_unknown(frames, truth, n):
    u0, v0, radius = truth['circle'][n]
    v, u = np.indices((512, 640))
    away = np.hypot(u - u0, v - v0)
    assert frames[n][away > radius + 6].max() < 24
    assert np.median(frames[n][away < radius - 6]) > 40
    v, u = np.indices((256, 320))
    away = np.hypot(2 * u + 0.5 - u0, 2 * v + 0.5 - v0)
    assert np.array_equal(np.isfinite(depth(n)), away <= radius)


@pytest.mark.parametrize('n', [0, 60, 120, 200])
def test_depth_frames_agree_through_the_motion_and_the_intrinsics(truth, n):
    """Half-size K by c' = (c + ½)·½ − ½; points of frame n land on the depth of n + 5."""
    K = truth['K'][[n, n + 5]].copy()
    K[:, :2] *= 0.5
    K[:, :2, 2] -= 0.25
    v, u = np.indices((256, 320)).astype(float)
    points = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(K[0]).T * depth(n)[..., None]
    T = np.linalg.inv(truth['T_world_cam'][n + 5]) @ truth['T_world_cam'][n]
    points = points @ T[:3, :3].T + T[:3, 3]
    pixels = (points @ K[1].T / points[..., 2:]).astype(np.float32)
    there = cv2.remap(
        depth(n + 5).astype(np.float32),
        pixels[..., 0],
        pixels[..., 1],
        cv2.INTER_LINEAR,
        None,
        cv2.BORDER_CONSTANT,
        np.nan,
    )
    gap = np.abs(there - points[..., 2]) / points[..., 2]
    gap = gap[np.isfinite(gap)]
    assert gap.size > 20_000
    assert np.median(gap) < 2e-3
    assert np.mean(gap < 0.02) > 0.9


def test_pictures_agree_with_truth_better_than_without_motion_or_zoom(frames, truth):
    """Warping frame n + 1 onto n by truth beats leaving it and beats a frozen focal length."""
    n = 80  # zooming and moving
    K, T = truth['K'], truth['T_world_cam']
    v, u = np.indices((512, 640)).astype(float)
    z = cv2.resize(depth(n).astype(np.float32), (640, 512), interpolation=cv2.INTER_LINEAR)
    points = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(K[n]).T * z[..., None]

    def difference(T_next_this: np.ndarray, K_next: np.ndarray) -> float:
        moved = points @ T_next_this[:3, :3].T + T_next_this[:3, 3]
        pixels = (moved @ K_next.T / moved[..., 2:]).astype(np.float32)
        later = cv2.remap(frames[n + 1], pixels[..., 0], pixels[..., 1], cv2.INTER_CUBIC)
        inside = np.isfinite(z) & (np.hypot(u - 320, v - 256) < 220)
        return float(np.abs(later.astype(float) - frames[n])[inside].mean())

    step = np.linalg.inv(T[n + 1]) @ T[n]
    true = difference(step, K[n + 1])
    assert true < 0.8 * difference(np.eye(4), K[n])
    assert true < 0.95 * difference(step, K[n])
    assert true < 0.9 * difference(np.linalg.inv(step), K[n + 1])
