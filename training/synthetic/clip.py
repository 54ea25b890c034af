# SPDX-License-Identifier: Apache-2.0
"""
Make the demo clip and its truth: ``python -m training.synthetic.clip OUT_DIR --seed S``.

Writes ``clip.mp4``, ``truth.npz``, ``depth/%04d.png`` and ``README.md`` into OUT_DIR.
"""

import argparse
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from training.synthetic.camera import Camera, Flight, Scope, fly
from training.synthetic.light import Light
from training.synthetic.render import View, render
from training.synthetic.sensor import Sensor
from training.synthetic.tube import make_tube
from training.synthetic.world import World

WIDTH, HEIGHT, RATE, FRAMES = 640, 512, 25.0, 250
DEPTH_EVERY = 5  # frames
DEPTH_SHRINK = 2  # depth pictures are smaller than the clip by this factor
DEPTH_UNITS = 256.0  # per mm in the 16-bit pictures
DEPTH_STEP = 8  # units: rounding to 1/32 mm cuts the files by a third
ZOOMS = ((0.0, 1.0), (2.0, 1.0), (4.2, 1.6), (6.9, 1.6), (8.7, 1.2))
PAUSES = ((5.2, 6.2),)
CLIP_SCOPE = Scope(focal=0.6, centre=(0.508, 0.494), stop_radius=0.37, stop_offset=(0.004, -0.003))


@dataclass(frozen=True)
class Shot:
    """
    One frame with its truth.

    :param image: (H, W, 3) uint8 sRGB.
    :param view: radiance, depth and albedo behind it.
    :param camera: K, T_world_cam and circle it was taken with.
    :param stamp: [s], the first frame at 0.
    """

    image: np.ndarray
    view: View
    camera: Camera
    stamp: float


def shoot(
    world: World,
    flight: Flight,
    scope: Scope,
    light: Light,
    sensor: Sensor,
    width: int,
    height: int,
    seed: int,
    everywhere: bool = False,
) -> Iterator[Shot]:
    """
    Film a flight, frame by frame, with an exposure that follows the scene.

    :param width: of the pictures [px], height likewise; everywhere: see `render`.
    """
    gain = None
    before = 0.0
    for n, stamp in enumerate(flight.stamps):
        camera = scope.camera(flight.T_world_cam[n], flight.zoom[n], width, height)
        view = render(world, light, camera, everywhere)
        wanted = sensor.gain_for(view.radiance)
        gain = wanted if gain is None else sensor.follow(gain, wanted, stamp - before)
        before = stamp
        image = sensor.expose(view.radiance, camera, gain, np.random.default_rng([seed, 3, n]))
        yield Shot(image, view, camera, float(stamp))


def make_clip(out: Path, seed: int, frames: int = FRAMES) -> None:
    """
    Render the clip and write it with its truth.

    :param out: folder to write into; the files of an older clip there are replaced.
    """
    world = make_tube(seed)
    flight = fly(world, seed, frames, rate=RATE, zooms=ZOOMS, pauses=PAUSES)
    light, sensor = Light.pair(), Sensor(read_noise=0.001, shot_noise=0.005)
    shutil.rmtree(out / 'depth', ignore_errors=True)
    (out / 'depth').mkdir(parents=True)
    cameras = []
    with _Encoder(out / 'clip.mp4') as encoder:
        shots = shoot(world, flight, CLIP_SCOPE, light, sensor, WIDTH, HEIGHT, seed, True)
        for n, shot in enumerate(shots):
            encoder.write(shot.image)
            cameras.append(shot.camera)
            if n % DEPTH_EVERY == 0:
                _write_depth(out / 'depth' / f'{n:04d}.png', world, light, flight, n)
            if n % 25 == 0:
                print(f'frame {n} of {frames}', flush=True)
    np.savez_compressed(
        out / 'truth.npz',
        K=np.stack([c.K for c in cameras]),
        T_world_cam=np.stack([c.T_world_cam for c in cameras]),
        stamps=flight.stamps,
        circle=np.stack([c.circle for c in cameras]),
    )
    (out / 'README.md').write_text(_describe(seed, frames), encoding='utf-8')


def read_depth(path: Path) -> np.ndarray:
    """Read a depth picture of the truth: (H, W) float32 z-depth [mm], NaN where unknown."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
        raise ValueError(f'{path}: need a 16-bit grey PNG of depth; rebuild the clip')
    return np.where(stored > 0, stored / np.float32(DEPTH_UNITS), np.float32(np.nan))


def _write_depth(path: Path, world: World, light: Light, flight: Flight, n: int) -> None:
    size = WIDTH // DEPTH_SHRINK, HEIGHT // DEPTH_SHRINK
    camera = CLIP_SCOPE.camera(flight.T_world_cam[n], flight.zoom[n], *size)
    depth = np.nan_to_num(render(world, light, camera).depth)
    if depth.max() * DEPTH_UNITS > 65535:
        raise ValueError(f'frame {n}: depth of {depth.max():.0f} mm does not fit 16 bits')
    stored = (np.round(depth * DEPTH_UNITS / DEPTH_STEP) * DEPTH_STEP).astype(np.uint16)
    cv2.imwrite(str(path), stored, [cv2.IMWRITE_PNG_COMPRESSION, 9])


class _Encoder:
    """Pipe frames into ffmpeg, a program of its own: H.264 in mp4, yuv420p, BT.709."""

    def __init__(self, path: Path) -> None:
        program = shutil.which('ffmpeg')
        if program is None:
            raise ValueError('ffmpeg not found, needed to encode the clip: apt install ffmpeg')
        source = f'-f rawvideo -pix_fmt rgb24 -s {WIDTH}x{HEIGHT} -r {RATE} -i -'
        colour = (
            '-vf scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int '
            '-colorspace bt709 -color_primaries bt709 -color_trc iec61966-2-1 -color_range tv'
        )
        codec = '-c:v libx264 -preset veryslow -crf 20 -pix_fmt yuv420p -bf 2 -g 50'
        arguments = f'-y -loglevel error {source} {colour} {codec} -movflags +faststart'
        self._process = subprocess.Popen(
            [program, *arguments.split(), str(path)], stdin=subprocess.PIPE
        )
        if self._process.stdin is None:
            raise ValueError(f'{path}: no pipe to ffmpeg')
        self._pipe = self._process.stdin

    def __enter__(self) -> '_Encoder':
        return self

    def write(self, image: np.ndarray) -> None:
        """Append a frame: (HEIGHT, WIDTH, 3) uint8 RGB."""
        self._pipe.write(image.tobytes())

    def __exit__(self, *error: object) -> None:
        self._pipe.close()
        if self._process.wait() != 0 and error[0] is None:
            raise ValueError(f'ffmpeg failed with exit code {self._process.returncode}')


def _describe(seed: int, frames: int) -> str:
    return f"""# The demo clip and its truth

Rendered, so free of patients: a tube of folds, {frames} frames at {RATE:g} Hz,
{WIDTH}×{HEIGHT}. The camera advances, orbits, rolls, pauses once
({PAUSES[0][0]}–{PAUSES[0][1]} s) and zooms 1 → 1.6 → 1.2; the round field stop scales with
the zoom. Made by `python -m training.synthetic.clip OUT_DIR --seed {seed}`.

- `clip.mp4`: H.264, yuv420p, BT.709.
- `truth.npz`, every frame: `K` (N, 3, 3) [px of the clip, pixel centres at integers],
  `T_world_cam` (N, 4, 4) [mm; camera axes x right, y down, z forward], `stamps` (N,) [s, from 0],
  `circle` (N, 3) centre u, v and radius of the field stop [px of the clip].
- `depth/%04d.png`, every {DEPTH_EVERY}th frame, named by its 0-based index: 16 bits,
  z-depth in mm × {DEPTH_UNITS:g}, rounded to 1/{DEPTH_UNITS / DEPTH_STEP:g} mm to keep the
  files small; 0 where unknown (outside the field stop).
  Size {WIDTH // DEPTH_SHRINK}×{HEIGHT // DEPTH_SHRINK}: **half the clip's**, rays cast through
  the centres of these larger pixels. With s = ½ a clip pixel c lies at c' = (c + ½)·s − ½ in
  the depth picture (fx' = s·fx, cx' = (cx + ½)·s − ½; likewise fy, cy), so depth pixel
  (u', v') looks at the corner between clip pixels (2u', 2v') and (2u'+1, 2v'+1).
"""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description='Render the demo clip with its truth.')
    parser.add_argument('out', type=Path, metavar='OUT_DIR', help='folder to write into')
    parser.add_argument('--seed', type=int, default=4, help='of the world, flight and noise')
    parser.add_argument('--frames', type=int, default=FRAMES, help='fewer, for a quick look')
    arguments = parser.parse_args()
    make_clip(arguments.out, arguments.seed, arguments.frames)


if __name__ == '__main__':
    main()
