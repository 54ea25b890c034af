# SPDX-License-Identifier: Apache-2.0
"""
Films of another renderer: worlds of triangles under true many-bounce light, to be judged on.

    python -m training path-trace OUT --scene tube|cavity|belly --seed 1 --frames 75

Nothing here is shared with `training.synthetic`: networks that learned there never saw its like.
About 4 s a frame of 320x256 on two cores. Needs `pip install mitsuba` and, on Debian,
`apt-get install libllvm19`; neither is needed by anything else here.
OUT holds frames/%04d.png and the truth that `endosfm3d evaluate --truth OUT` takes.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from training.path_traced.cameras import RATE, Cameras, draw_cameras, seen_through
from training.path_traced.renderer import BOUNCES, Renderer
from training.path_traced.sensor import Sensor
from training.path_traced.worlds import SCENES, make_world

STEPS_PER_MM = 256.0  # of the depth pictures, as endosfm3d_ros/evaluation/truth.py reads them


def write_depth(path: Path, depth: np.ndarray) -> None:
    """(H, W) [mm], NaN where unknown, as 16 bits of mm x 256; beyond their range is unknown."""
    steps = np.nan_to_num(depth * STEPS_PER_MM, nan=0.0, posinf=0.0)
    cv2.imwrite(str(path), np.where(steps < 65535.5, np.rint(steps), 0).astype(np.uint16))


def write_truth(folder: Path, cameras: Cameras) -> None:
    """Write `truth.npz`."""
    known = {'K': cameras.K, 'T_world_cam': cameras.T_world_cam}
    if cameras.circle is not None:
        known['circle'] = cameras.circle
    np.savez(folder / 'truth.npz', stamps=np.arange(len(cameras.K)) / RATE, **known)


def main() -> int:
    """:return: process exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='folder to make')
    parser.add_argument('--scene', choices=SCENES, required=True, help='what to film')
    parser.add_argument('--seed', type=int, default=1, help='another world, scope and hand')
    parser.add_argument('--frames', type=int, default=75, help='at 25 Hz (default: 75)')
    parser.add_argument('--size', type=int, nargs=2, default=(320, 256), help='width, height [px]')
    parser.add_argument('--samples', type=int, default=16, help='a pixel (default: 16)')
    parser.add_argument('--bounces', type=int, default=BOUNCES, help='2: direct light only')
    parser.add_argument('--every', type=int, default=1, help='render only each so many frames')
    a = parser.parse_args()
    size = (a.size[0], a.size[1])
    world = make_world(a.scene, a.seed)
    cameras = draw_cameras(world, a.seed, a.frames, size)
    renderer, sensor = Renderer(world, a.seed, size, a.bounces), Sensor(a.seed)
    for folder in ('frames', 'depth'):
        (a.out / folder).mkdir(parents=True, exist_ok=True)
    write_truth(a.out, cameras)
    for n in range(0, a.frames, a.every):
        light, depth = renderer.shoot(cameras.K[n], cameras.T_world_cam[n], a.samples, n)
        seen = seen_through(None if cameras.circle is None else cameras.circle[n], size)
        cv2.imwrite(str(a.out / 'frames' / f'{n:04d}.png'), sensor.develop(light, seen))
        write_depth(a.out / 'depth' / f'{n:04d}.png', np.where(seen, depth, np.nan))
    return 0


if __name__ == '__main__':
    sys.exit(main())
