# SPDX-License-Identifier: Apache-2.0
"""
Makes frames_and_scale.jpg of the rendered clip and its truth: run it from the repository's root.

Needs matplotlib, which the package does not. The robot is made up as in test/test_metric.py: the
clip's true camera path, seen from a tip 20 mm and 5 degrees away, with 1 mm of noise and pictures
80 ms late.
"""

from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np

from endosfm3d_ros import parameters
from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bags.source import FIRST_STAMP_NS
from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.core.frame import Frame, Reconstruction
from endosfm3d_ros.core.geometry import inverse, motion_from_vector
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.engines.choose import DepthGraphs
from endosfm3d_ros.evaluation.sampling import truth_on_picture
from endosfm3d_ros.evaluation.truth import Truth, read_truth_folder
from endosfm3d_ros.metric import Metric
from endosfm3d_ros.outputs import Outputs
from endosfm3d_ros.share import DEMO_CLIP

OUT = Path(__file__).with_suffix('.jpg')
SHOWN = 60  # frame of the first panel
FRAMES = 200
LATE_NS = 80_000_000
RED, GREEN, BLUE, GREY, GOLD = '#e5484d', '#30a46c', '#3e7bfa', '#8b8d98', '#ffb224'


def robot_poses(truth: Truth) -> list[tuple[int, np.ndarray]]:
    """A robot's tip at 50 Hz: stamp [ns], T_base_tip [mm]."""
    rng = np.random.default_rng(1)
    axis, lever = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    T_cam_tip = inverse(motion_from_vector(np.radians(5.0) * axis, 20.0 * lever))
    poses = []
    for time in np.arange(truth.stamps[0], truth.stamps[-1], 0.02):
        number = int(np.clip(np.searchsorted(truth.stamps, time), 1, len(truth.stamps) - 1))
        share = (time - truth.stamps[number - 1]) / np.diff(truth.stamps)[number - 1]
        mix = (1 - share) * truth.T_world_cam[number - 1] + share * truth.T_world_cam[number]
        U, _, Vt = np.linalg.svd(mix[:3, :3])
        mix[:3, :3] = U @ Vt
        T = mix @ T_cam_tip
        T[:3, 3] += rng.normal(size=3)
        poses.append((FIRST_STAMP_NS + round(time * 1e9), T))
    return poses


def run(truth: Truth) -> tuple[list[Reconstruction], list[bool], np.ndarray]:
    """Reconstructions, whether each was metric, and the picture of the first panel."""
    values = {
        **parameters.DEFAULTS,
        'model': 'photometric',
        'scale.source': 'kinematics',
        'scale.anchor_sigma': 0.06,
    }
    bundle = open_bundle(str(values['model']))
    pipeline = Pipeline(DepthGraphs(bundle, 'auto', 0), bundle.sizes, parameters.settings(values))
    outputs = Outputs(values)
    metric = Metric(values, pipeline, outputs)
    poses, said, anchored, shown = iter(robot_poses(truth)), [], [], np.zeros(0)
    stamp_ns, T = next(poses)
    for number, frame in zip(range(FRAMES), open_frames(DEMO_CLIP / 'clip.mp4'), strict=False):
        late = Frame(frame.image, frame.stamp_ns + LATE_NS, frame.frame_id)
        while stamp_ns < late.stamp_ns:
            metric.robot(stamp_ns, T)
            stamp_ns, T = next(poses)
        anchored.append(outputs.scale.anchored)
        said.append(pipeline.step(late))
        metric.after(said[-1])
        shown = frame.image if number == SHOWN else shown
    return said, anchored, shown


def panel_picture(ax: plt.Axes, image: np.ndarray, camera: Reconstruction) -> None:
    K = camera.input_camera
    ax.imshow(image)
    for end, colour, word in (((120, 0), RED, 'x'), ((0, 120), GREEN, 'y')):
        ax.annotate('', (K.cx + end[0], K.cy + end[1]), (K.cx, K.cy),
                    arrowprops={'color': colour, 'width': 3, 'headwidth': 11})  # fmt: skip
        ax.text(K.cx + 1.17 * end[0], K.cy + 1.17 * end[1], word, color=colour, fontsize=15,
                weight='bold', ha='center', va='center')  # fmt: skip
    ax.plot(K.cx, K.cy, 'o', ms=13, mec=BLUE, mfc='none', mew=3)
    ax.plot(K.cx, K.cy, '.', ms=6, color=BLUE)
    ax.text(K.cx - 16, K.cy - 22, 'z, into the picture', color=BLUE, fontsize=12, weight='bold',
            ha='right')  # fmt: skip
    ax.set_title('The camera frame: the optical frame of your image', fontsize=12, loc='left')
    ax.text(0.02, 0.03, 'the rim of the round picture: its radius is the zoom', color='white',
            transform=ax.transAxes, fontsize=9)  # fmt: skip
    ax.axis('off')


def panel_path(ax: plt.Axes, said: list[Reconstruction]) -> None:
    path = np.array([one.T_odom_cam[:3, 3] for one in said])
    ax.plot(*path.T, color=GOLD, lw=2.5)
    size = 0.12 * float(np.ptp(path, axis=0).max())
    for one in said[:: max(1, len(said) // 5)]:
        for axis, colour in enumerate((RED, GREEN, BLUE)):
            start, way = one.T_odom_cam[:3, 3], size * one.T_odom_cam[:3, axis]
            ax.plot(*np.stack([start, start + way]).T, color=colour, lw=2)
    for axis, (name, colour) in enumerate(
        (('x: the first view', RED), ('y: left', GREEN), ('z: up', BLUE))
    ):
        way = np.eye(3)[axis] * 2.4 * size
        ax.plot(*np.stack([0 * way, way]).T, color=colour, lw=1, ls=':')
        ax.text(*(1.08 * way), name, color=colour, fontsize=10)
    ax.set_title('odom: the path of one epoch [mm]', fontsize=12, loc='left')
    for one in (ax.xaxis, ax.yaxis, ax.zaxis):
        one.set_pane_color((0.12, 0.13, 0.15, 1.0))
        one._axinfo['grid'].update(color='#2c2f36', linewidth=0.6)
    ax.set_aspect('equal')
    ax.view_init(28, -120)
    ax.tick_params(labelsize=7)


def panel_scale(
    ax: plt.Axes, truth: Truth, said: list[Reconstruction], anchored: list[bool]
) -> None:
    times, ours, true = [], [], []
    for number, one in enumerate(said):
        if number in truth.depth_frames:
            target = truth_on_picture(truth.read_depth(number), one.camera, one.input_camera)
            both = np.isfinite(target) & np.isfinite(one.depth)
            times.append(truth.stamps[number])
            ours.append(float(np.median(one.depth[both])))
            true.append(float(np.median(target[both])))
    begins = truth.stamps[anchored.index(True)]
    times_array, ours_array = np.array(times), np.array(ours)
    before = times_array < begins
    ax.plot(times, true, color=GREY, lw=2, label='the truth')
    ax.plot(
        times_array[before], ours_array[before], color=RED, lw=2.5, label='nominal: shape only'
    )
    ax.plot(times_array[~before], ours_array[~before], color=GREEN, lw=2.5,
            label='kinematic: by the robot')  # fmt: skip
    ax.axvline(begins, color=GOLD, lw=1.5, ls='--')
    ax.set_title('Median depth [mm]: what a millimetre is worth', fontsize=12, loc='left')
    ax.set_xlabel('time [s]')
    ax.set_ylim(0, 1.5 * max(*true, *ours))
    ax.text(
        begins + 0.1,
        1.42 * max(*true, *ours),
        'the scale anchors: a new epoch',
        color=GOLD,
        va='top',
    )
    ax.legend(frameon=False, fontsize=9, loc='lower right')


def main() -> None:
    """Draw the three panels."""
    truth = read_truth_folder(DEMO_CLIP)
    said, anchored, shown = run(truth)
    plt.style.use('dark_background')
    figure = plt.figure(figsize=(15, 4.8), facecolor='#16181c')
    panel_picture(figure.add_subplot(1, 3, 1), shown, said[SHOWN])
    last = said[-1].epoch
    panel_path(figure.add_subplot(1, 3, 2, projection='3d'), [s for s in said if s.epoch == last])
    panel_scale(figure.add_subplot(1, 3, 3), truth, said, anchored)
    for ax in figure.axes:
        ax.set_facecolor('#16181c')
    figure.tight_layout()
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., 2::-1]
    cv2.imwrite(str(OUT), drawn, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == '__main__':
    main()
