# SPDX-License-Identifier: Apache-2.0
"""Small data sets as their authors lay them out, of one made-up scene whose truth is known."""

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 160, 128
FOCAL = 100.0
K = np.array([[FOCAL, 0.0, 81.5], [0.0, FOCAL, 61.5], [0.0, 0.0, 1.0]])
STEP_MM = 1.0  # to the right with each frame
DEPTH_MM = 40.0
_RNG = np.random.default_rng(0)
_NOISE = cv2.GaussianBlur(_RNG.integers(0, 255, (400, 600, 3), np.uint8), (0, 0), 2.0)
_GREY = cv2.normalize(_NOISE, None, 0, 140, cv2.NORM_MINMAX)
WALL = (_GREY * [0.7, 0.5, 0.5] + [120, 30, 30]).astype(np.uint8)  # reddish, like tissue


def picture(number: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a wall DEPTH_MM away; it moves left by 2.5 px a frame."""
    shift = FOCAL * STEP_MM / DEPTH_MM * number
    M = np.float32([[1, 0, -shift - 50], [0, 1, -50]])
    return cv2.warpAffine(WALL, M, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)


def T_world_cam(number: int) -> np.ndarray:
    T = np.eye(4)
    T[0, 3] = STEP_MM * number
    return T


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


def depth() -> np.ndarray:
    values = np.full((HEIGHT, WIDTH), DEPTH_MM, np.float32)
    values[:8] = 0.0  # unknown
    return values


def scene_points() -> bytes:
    """A tiff of x, y, z, the left picture above the right."""
    stacked = np.zeros((2 * HEIGHT, WIDTH, 3), np.float32)
    stacked[:HEIGHT, :, 2] = depth()
    stacked[HEIGHT:, :, 2] = 7.0  # of the other eye
    return cv2.imencode('.tiff', np.ascontiguousarray(stacked[..., ::-1]))[1].tobytes()


def frame_data(number: int) -> str:
    """K of the full size, 1280x1024; the pose maps the world into the camera."""
    full = K.copy()
    full[:2] *= 8
    full[:2, 2] += 3.5  # c' = (c + 1/2) 8 - 1/2
    pose = np.linalg.inv(T_world_cam(number))
    return json.dumps({'camera-calibration': {'KL': full.tolist()}, 'camera-pose': pose.tolist()})


def scared(root: Path, numbers: list[int]) -> Path:
    folder = root / 'dataset3' / 'keyframe4'
    for n in numbers:
        write(folder / 'image_02' / 'data' / f'{n:010d}.png', picture(n))
        points = folder / 'image_02' / 'data' / 'groundtruth' / f'scene_points{n - 1:06d}.tiff'
        facts = folder / 'image_02' / 'data' / 'frame_data' / f'frame_data{n - 1:06d}.json'
        for path in (points, facts):
            path.parent.mkdir(parents=True, exist_ok=True)
        points.write_bytes(scene_points())
        facts.write_text(frame_data(n))
    return root


def scared_raw(root: Path, count: int) -> Path:
    folder = root / 'dataset3' / 'keyframe4' / 'data'
    folder.mkdir(parents=True)
    video(folder / 'rgb.mp4', [np.vstack([picture(n), picture(n)]) for n in range(count)])
    for kind, ending in (('scene_points', 'tiff'), ('frame_data', 'json')):
        with tarfile.open(folder / f'{kind}.tar.gz', 'w:gz') as archive:
            for n in range(count):
                path = root / f'{kind}{n:06d}.{ending}'
                path.write_bytes(scene_points() if ending == 'tiff' else frame_data(n).encode())
                archive.add(path, path.name)
                path.unlink()
    return root


def hamlyn(root: Path, numbers: list[int]) -> Path:
    for n in numbers:
        write(root / 'rectified01' / 'image01' / f'{n:010d}.jpg', picture(n))
        stored = depth().round().astype(np.uint16)
        write(root / 'rectified01' / 'depth01' / f'{n:010d}.png', stored)
    np.savetxt(root / 'rectified01' / 'intrinsics.txt', np.hstack([K, np.zeros((3, 1))]))
    return root


CALIBRATION = {
    'width': WIDTH,
    'height': HEIGHT,
    'cx': 81.0,
    'cy': 62.0,
    'a0': 91.0,
    'a1': 0.0,
    'a2': -2e-3,
    'a3': 4e-6,
    'a4': -1e-8,
    'c': 0.999,
    'd': 0.003,
    'e': -0.002,
}


def fisheye_picture(number: int) -> np.ndarray:
    """The wall of `picture` through the omnidirectional camera of CALIBRATION."""
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    stretch = [[CALIBRATION['c'], CALIBRATION['d']], [CALIBRATION['e'], 1.0]]
    off = np.stack([u - CALIBRATION['cx'], v - CALIBRATION['cy']], -1)
    ideal = off @ np.linalg.inv(stretch).T
    rho = np.hypot(ideal[..., 0], ideal[..., 1])
    z = sum(CALIBRATION[f'a{n}'] * rho**n for n in range(5))
    shift = FOCAL * STEP_MM / DEPTH_MM * number
    x = FOCAL * ideal[..., 0] / z + K[0, 2] + shift + 150
    y = FOCAL * ideal[..., 1] / z + K[1, 2] + 130
    places = x.astype(np.float32), y.astype(np.float32)
    return cv2.remap(WALL, *places, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT)


def c3vd(root: Path, numbers: list[int]) -> Path:
    folder = root / 'cecum_t1_a'
    for n in numbers:
        write(folder / f'{n}_color.png', fisheye_picture(n))  # published without zeros before it
        stored = np.full((HEIGHT, WIDTH), 26214, np.uint16)  # 40 mm of 100 at full scale
        stored[0, :] = 65535
        write(folder / f'{n:04d}_depth.tiff', stored)
    lines = [','.join(map(str, T_world_cam(n).T.ravel())) for n in range(max(numbers) + 1)]
    (folder / 'pose.txt').write_text('\n'.join(lines) + '\n')
    text = '\n'.join(f'{name} {value}' for name, value in CALIBRATION.items())
    (root / 'camera_intrinsics.txt').write_text(text)
    return root


def video(path: Path, images: list[np.ndarray]) -> Path:
    height, width = images[0].shape[:2]
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25.0, (width, height))
    for image in images:
        out.write(np.ascontiguousarray(image[..., ::-1]))
    out.release()
    return path
