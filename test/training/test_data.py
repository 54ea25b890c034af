# SPDX-License-Identifier: Apache-2.0
"""Data sets as they lie on disks become samples whose truth is one: warped, they agree."""

import os
import subprocess
import sys
from dataclasses import replace

import cv2
import made_data
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

pytest.importorskip('torch', reason='torch trains: make setup-training')

import torch

from endosfm3d_ros.core.frame import Intrinsics
from training.config import Source
from training.data.augment import Augmentation, augmented, cropped, mirrored
from training.data.c3vd import c3vd, read_fisheye
from training.data.dataset import Samples, Steps
from training.data.hamlyn import hamlyn
from training.data.open import _with_own_name
from training.data.prepared import prepare_clip
from training.data.raw import RawClip, RawFrame
from training.data.sample import Sample, batched
from training.data.scared import _resized, scared, scared_raw
from training.data.streams import stream
from training.masks import usable
from training.objective import masked_mean, project, sample

SIZE = (112, 140)
MASKS = ('border', 'highlights', 'tools')


def prepared(clip: RawClip, tmp_path):
    return prepare_clip(clip, SIZE, tmp_path / 'cache', MASKS)


def warp_error(one: Sample, source: int = 1) -> float:
    """L1 of the source warped onto the target with the sample's own truth."""
    batch = batched([one])
    known = torch.isfinite(batch.depth[:, 0])
    depth = torch.nan_to_num(batch.depth[:, 0], nan=1.0)
    T = batch.T_source_target[:, source - 1]
    there = project(depth, T, batch.camera[:, 0], batch.camera[:, source])
    mask = known * there.inside * batch.usable[:, 0]
    assert mask.mean() > 0.5
    warped = sample(batch.images[:, source], there.pixels)
    return float(masked_mean((warped - batch.images[:, 0]).abs(), mask))


def unwarped_error(one: Sample) -> float:
    return float((one.images[1] - one.images[0]).abs().mean())


@pytest.mark.parametrize('layout', ['scared', 'scared-raw', 'c3vd'])
def test_truth_of_each_data_set_warps_a_neighbour_onto_its_frame(tmp_path, layout):
    if layout == 'scared':
        clips = scared(made_data.scared(tmp_path / 'data', [1, 2, 3]))
    elif layout == 'scared-raw':
        clips = scared_raw(made_data.scared_raw(tmp_path / 'data', 3))
    else:
        clips = c3vd(made_data.c3vd(tmp_path / 'data', [0, 1, 2]))
    samples = Samples([prepared(clips[0], tmp_path)])
    assert len(samples) == 1
    assert samples.left_out == 2
    assert samples[0].T_source_target[:, 0, 3].tolist() == pytest.approx([1.0, -1.0])
    share = {'scared': 0.2, 'scared-raw': 0.6, 'c3vd': 0.3}[layout]  # compressed; resampled twice
    assert warp_error(samples[0]) < share * unwarped_error(samples[0])
    assert warp_error(samples[0], 2) < share * unwarped_error(samples[0])
    assert samples[0].depth.nanmedian() == pytest.approx(made_data.DEPTH_MM)


def test_frames_of_a_list_are_targets_and_the_folder_has_their_neighbours(tmp_path):
    """As the standard test list of SCARED asks for it: every eighth frame."""
    root = made_data.scared(tmp_path / 'data', list(range(1, 18)))
    frames = tmp_path / 'test.txt'
    frames.write_text(''.join(f'dataset3/keyframe4 {n} l\n' for n in (1, 9, 10, 17)))
    clip = prepared(scared(root, [frames])[0], tmp_path)
    assert clip.numbers.tolist() == [1, 2, 8, 9, 10, 11, 16, 17]
    assert clip.numbers[clip.targets].tolist() == [1, 9, 10, 17]
    samples = Samples([clip])
    assert [samples[n].name for n in range(len(samples))] == [
        f'dataset3/keyframe4 frame {n}' for n in (9, 10)
    ]
    assert samples.left_out == 2  # 1 and 17 are at an end, but have their depth
    assert [one.name[-2:] for one in samples.alone()] == [' 1', '17']
    assert all(one.depth.isfinite().any() and len(one.images) == 1 for one in samples.alone())
    farther = prepared(scared(root, [frames], (-2, 2))[0], tmp_path)
    assert farther.numbers.tolist() == [1, 3, 7, 8, 9, 10, 11, 12, 15, 17]


def test_depth_is_read_at_the_centre_of_the_networks_pixel(tmp_path):
    """u of the picture as its depth: a reader that rounds down is half a network's pixel off."""
    root = made_data.hamlyn(tmp_path / 'data', [0])
    ramp = np.tile(np.arange(made_data.WIDTH, dtype=np.uint16) + 1, (made_data.HEIGHT, 1))
    made_data.write(root / 'rectified01' / 'depth01' / f'{0:010d}.png', ramp)
    clip = prepare_clip(hamlyn(root)[0], (32, 40), tmp_path / 'cache', [])
    centres = (np.arange(40) + 0.5) * 4 - 0.5
    assert abs(np.mean(clip.depths[0, 16] - 1 - centres)) <= 0.5


def test_scene_points_of_a_larger_picture_are_read_at_pixel_centres():
    ramp = np.tile(np.arange(160, dtype=np.float32), (128, 1))
    centres = (np.arange(40) + 0.5) * 4 - 0.5
    assert abs(np.mean(_resized(ramp, 40, 32)[16] - centres)) <= 0.5


def test_hamlyn_knows_depth_and_camera(tmp_path):
    clip = prepared(hamlyn(made_data.hamlyn(tmp_path / 'data', [0, 1, 2]))[0], tmp_path)
    assert np.isnan(clip.depths[0][:7]).all()
    assert clip.depths[0][50, 50] == made_data.DEPTH_MM
    fx, fy, n_x, n_y = clip.cameras[0]
    assert (fx, fy) == pytest.approx((100 / 160, 100 / 128))
    assert (n_x, n_y) == pytest.approx((82 / 160, 62 / 128))


def test_a_fisheye_pixel_lands_where_its_ray_meets_the_pinhole(tmp_path):
    root = made_data.c3vd(tmp_path, [0])
    fisheye = read_fisheye(root / 'camera_intrinsics.txt')
    for u, v in ((30.0, 20.0), (81.0, 62.0), (120.0, 90.0), (81.0, 5.0)):
        ideal = np.linalg.solve(fisheye.stretch, np.array([u, v]) - fisheye.centre)
        z = np.polynomial.polynomial.polyval(np.hypot(*ideal), fisheye.polynomial)
        back = fisheye.pixels(np.array(ideal[0] / z), np.array(ideal[1] / z))
        assert back == pytest.approx([u, v], abs=1e-2)
    frame = next(c3vd(root)[0].frames())
    assert frame.camera.fx == pytest.approx(80 / 1.3)
    assert frame.depth[64, 80] == pytest.approx(40.0, abs=1e-3)
    middle = fisheye.centre.round().astype(int)
    there = frame.image[round(frame.camera.cy), round(frame.camera.cx)].astype(int)
    assert np.abs(there - made_data.fisheye_picture(0)[middle[1], middle[0]]).max() < 12


def test_depth_of_a_fisheye_picture_is_found_by_number_whatever_zeros_stand_before_it(tmp_path):
    root = made_data.c3vd(tmp_path, [0, 1, 2])
    folder = root / 'cecum_t1_a'
    (folder / '1_color.png').rename(folder / '0001_color.png')
    (folder / '0002_depth.tiff').unlink()
    frames = list(c3vd(root)[0].frames())
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert [frame.depth is not None for frame in frames] == [True, True, False]


def test_pictures_of_another_size_are_cut_and_their_camera_follows_by_that_size(tmp_path):
    camera = Intrinsics(320, 240, 200.0, 200.0, 159.5, 119.5)
    wall = cv2.resize(made_data.picture(0), (320, 240))

    def frames():
        for number, size in enumerate(((320, 240), (288, 216))):
            yield RawFrame(number, cv2.resize(wall, size), camera.resized(*size))

    clip = prepared(RawClip('mixed', 'mixed', frames), tmp_path)
    assert clip.windows[1] == pytest.approx([0, 0, 1, 1], abs=0.01)
    assert clip.cameras[1] == pytest.approx(clip.cameras[0], abs=0.01)


def test_a_video_and_a_folder_of_pictures_are_sequences(tmp_path):
    images = [made_data.picture(n) for n in range(4)]
    for n, image in enumerate(images):
        made_data.write(tmp_path / 'pictures' / f'{n}.png', image)
    video = made_data.video(tmp_path / 'clip.mp4', images)
    for path in (video, tmp_path / 'pictures'):
        clip = prepared(stream(path)[0], tmp_path)
        assert clip.numbers.tolist() == [0, 1, 2, 3]
        assert np.isnan(clip.cameras).all()
        assert clip.depths is None


def recorded(bag, frames, encoding='bgr8', frame_id='endoscope', topics=('/camera',), big=0):
    """A rosbag2 of pictures (H, W) or (H, W, 3) by number, 40 ms apart; n + 1/2 has n's stamp."""
    types = get_typestore(Stores.ROS2_JAZZY)
    Image, Header = types.types['sensor_msgs/msg/Image'], types.types['std_msgs/msg/Header']
    Time = types.types['builtin_interfaces/msg/Time']
    kind = 'sensor_msgs/msg/Image'
    with Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for name in topics:
            topic = writer.add_connection(name, kind, typestore=types)
            for n, picture in frames.items():
                stamp_ns = 10**18 + int(n) * 40_000_000
                header = Header(Time(*divmod(stamp_ns, 10**9)), frame_id)
                rows = np.ascontiguousarray(picture).view(np.uint8).reshape(len(picture), -1)
                size = picture.shape[0], picture.shape[1]
                image = Image(header, *size, encoding, big, rows.shape[1], rows.reshape(-1))
                writer.write(topic, 10**18 + int(n * 40_000_000), types.serialize_cdr(image, kind))
    return bag


def test_what_a_robot_recorded_is_trained_on_and_a_lost_frame_leaves_a_gap(tmp_path):
    pictures = {n: made_data.picture(n)[..., ::-1] for n in (0, 1, 2, 3, 5, 6, 7)}
    bag = recorded(tmp_path / 'bag', pictures)
    clip = prepared(stream(bag)[0], tmp_path)
    assert clip.numbers.tolist() == [0, 1, 2, 3, 5, 6, 7]
    samples = Samples([clip])
    assert (len(samples), samples.left_out) == (3, 4)
    there = torch.from_numpy(clip.images[0].copy()).float()
    assert float(there[..., 0].mean()) > float(there[..., 2].mean())  # red is red


def test_a_picture_that_came_twice_is_one(tmp_path, capsys):
    """As a driver sends it that publishes faster than its camera: the stamp is that of before."""
    twice = {n / 2: made_data.picture(n // 2)[..., ::-1] for n in range(8)}
    bag = recorded(tmp_path / 'bag', twice)
    assert prepared(stream(bag)[0], tmp_path).numbers.tolist() == [0, 1, 2, 3]
    assert 'bag /camera: 4 pictures bore the stamp before, left out' in capsys.readouterr().err


def test_a_bag_needs_no_frame_s_name_and_of_several_topics_the_key_topic(tmp_path):
    pictures = {n: made_data.picture(n)[..., ::-1] for n in range(3)}
    nameless = recorded(tmp_path / 'nameless', pictures, frame_id='')
    assert len(list(stream(nameless)[0].frames())) == 3
    two = recorded(tmp_path / 'two', pictures, topics=('/left', '/right'))
    with pytest.raises(ValueError, match='choose one with the key topic: /left, /right'):
        stream(two)
    assert len(list(stream(two, '/right')[0].frames())) == 3


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('encoding', ['mono16', 'bayer_rggb16', 'MONO16'])
def test_pictures_of_sixteen_bits_are_those_of_eight(tmp_path, encoding, order):
    grey = made_data.picture(0)[..., 0]
    deep = {0: (grey.astype(np.uint16) * 257).astype(f'{order}u2')}
    shallow = recorded(tmp_path / 'shallow', {0: grey}, encoding.lower().replace('16', '8'))
    (wanted,) = stream(shallow)[0].frames()
    (found,) = stream(recorded(tmp_path / 'deep', deep, encoding, big=order == '>'))[0].frames()
    np.testing.assert_array_equal(found.image, wanted.image)


def test_frames_of_a_recording_that_broke_off_are_used_and_the_lack_is_told(tmp_path, capsys):
    video = made_data.video(tmp_path / 'clip.avi', [made_data.picture(n) for n in range(20)])
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert 0 < len(prepared(stream(video)[0], tmp_path).numbers) < 20
    assert 'of the 20 frames it announces could be read' in capsys.readouterr().err


def test_pictures_are_read_once_and_kept_as_the_networks_see_them(tmp_path):
    clip = hamlyn(made_data.hamlyn(tmp_path / 'data', [0, 1, 2]))[0]
    first = prepared(clip, tmp_path)
    unread = replace(clip, frames=lambda: iter(()))
    assert np.array_equal(prepared(unread, tmp_path).images, first.images)


@pytest.mark.parametrize('file', ['images.bin', 'facts.npz', 'clip.json'])
@pytest.mark.parametrize('kept', [None, 0, 30])
def test_a_damaged_clip_of_the_cache_is_named_with_what_mends_it(tmp_path, file, kept):
    clip = hamlyn(made_data.hamlyn(tmp_path / 'data', [0, 1]))[0]
    prepared(clip, tmp_path)
    (path,) = (tmp_path / 'cache').rglob(file)
    whole = path.read_bytes()
    path.unlink()
    if kept is not None:
        path.write_bytes(whole[:kept])
    with pytest.raises(ValueError, match='is damaged .*; remove the folder') as found:
        prepared(clip, tmp_path)
    assert str(path.parent) in str(found.value) and '\n' not in str(found.value)


@pytest.mark.parametrize(
    ('make', 'read', 'truth'),
    [
        (lambda at: made_data.hamlyn(at, [0, 1]), hamlyn, 'intrinsics.txt'),
        (lambda at: made_data.scared(at, [1, 2]), scared, 'frame_data000000.json'),
        (lambda at: made_data.scared_raw(at, 2), scared_raw, 'scene_points.tar.gz'),
        (lambda at: made_data.c3vd(at, [0, 1]), c3vd, 'pose.txt'),
    ],
)
def test_a_truth_that_came_changed_or_went_is_another_clip(tmp_path, make, read, truth):
    root = make(tmp_path / 'data')
    before = read(root)[0].facts
    assert read(root)[0].facts == before
    (file,) = root.rglob(truth)
    os.utime(file, ns=(0, 0))
    changed = read(root)[0].facts
    file.unlink()
    assert len({before, changed, read(root)[0].facts}) == 3


def test_two_processes_that_need_one_clip_make_it_once(tmp_path):
    root, cache = made_data.hamlyn(tmp_path / 'data', list(range(30))), tmp_path / 'cache'
    code = f"""
from pathlib import Path
from training.data.hamlyn import hamlyn
from training.data.prepared import prepare_clip
print(len(prepare_clip(hamlyn(Path({str(root)!r}))[0], {SIZE}, Path({str(cache)!r}), []).images))
"""
    runs = [
        subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [run.communicate()[0].strip() for run in runs] == ['30', '30']
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_an_unreadable_picture_is_named_and_nothing_half_made_stays(tmp_path):
    root = made_data.hamlyn(tmp_path / 'data', [0, 1, 2])
    (root / 'rectified01' / 'image01' / '0000000001.jpg').write_bytes(b'no picture')
    with pytest.raises(ValueError, match=r'0000000001\.jpg: this picture cannot be read'):
        prepared(hamlyn(root)[0], tmp_path)
    assert [path.name for path in (tmp_path / 'cache').iterdir()] == ['.lock']


@pytest.mark.parametrize(
    ('reader', 'needed'),
    [(scared, 'image_02/data'), (scared_raw, r'rgb\.mp4'), (c3vd, '_color'), (hamlyn, 'image01')],
)
def test_a_wrong_layout_says_which_was_needed(tmp_path, reader, needed):
    with pytest.raises(ValueError, match=needed):
        reader(tmp_path)


def test_a_list_of_frames_that_are_not_there_names_the_first(tmp_path):
    root = made_data.scared(tmp_path / 'data', [1, 2])
    (tmp_path / 'list.txt').write_text('dataset3/keyframe4 9 l\n')
    with pytest.raises(ValueError, match=r'frame 9 of the list has no picture'):
        scared(root, [tmp_path / 'list.txt'])
    (tmp_path / 'list.txt').write_text('dataset3/keyframe4 2 l\ndataset9/keyframe1 2 l\n')
    with pytest.raises(ValueError, match=r'dataset9/keyframe1: no such folder, and a list names'):
        scared(root, [tmp_path / 'list.txt'])
    (root / 'elsewhere').mkdir()
    (tmp_path / 'list.txt').write_text('dataset3/keyframe4 2 l\nelsewhere 2 l\n')
    with pytest.raises(ValueError, match=r'elsewhere: a list names frames of it, and it is no'):
        scared(root, [tmp_path / 'list.txt'])
    (tmp_path / 'list.txt').write_text('dataset3/keyframe4/ 2 l\n')
    (clip,) = scared(root, [tmp_path / 'list.txt'])
    assert [frame.number for frame in clip.frames() if frame.target] == [2]
    (tmp_path / 'list.txt').write_text('dataset3/keyframe4;9\n')
    with pytest.raises(ValueError, match=r'line 1: need FOLDER FRAME SIDE'):
        scared(root, [tmp_path / 'list.txt'])


@pytest.mark.parametrize('content', [b'', b'{', b'[]', b'{"camera-pose": []}'])
@pytest.mark.parametrize('file', ['frame_data000001.json', 'scene_points000001.tiff'])
def test_truth_that_is_cut_short_or_of_something_else_is_named(tmp_path, file, content):
    root = made_data.scared(tmp_path / 'data', [1, 2, 3])
    next(root.rglob(file)).write_bytes(content)
    with pytest.raises(ValueError, match=rf'dataset3/keyframe4: {file}: .*repair it') as found:
        list(scared(root)[0].frames())
    assert '\n' not in str(found.value)


@pytest.mark.parametrize('kept', [0.5, 0.0])
def test_an_archive_of_truth_that_is_cut_short_is_named(tmp_path, kept):
    root = tmp_path / 'data'
    made_data.scared_raw(root, 3)
    archive = next(root.rglob('scene_points.tar.gz'))
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(kept * len(whole))] or b'no archive')
    with pytest.raises(ValueError, match=r'scene_points\.tar\.gz: ReadError .*repair it'):
        list(scared_raw(root)[0].frames())


@pytest.fixture
def known(tmp_path) -> Sample:
    root = made_data.scared(tmp_path / 'data', [1, 2, 3])
    return Samples([prepared(scared(root)[0], tmp_path)])[0]


def test_cropped_and_mirrored_samples_still_warp_by_their_truth(known):
    whole = warp_error(known)
    for changed in (cropped(known, 0.1, 0.2, 0.7), mirrored(known),
                    mirrored(cropped(known, 0.3, 0.0, 0.7))):  # fmt: skip
        assert warp_error(changed) < 1.5 * whole + 0.002
        assert warp_error(changed, 2) < 1.5 * whole + 0.002
        wrong = replace(changed, camera=known.camera, T_source_target=known.T_source_target)
        assert warp_error(wrong) > 2 * warp_error(changed)


def test_a_crop_lengthens_the_focal_length_and_a_mirror_turns_the_centre(known):
    zoomed = cropped(known, 0.2, 0.1, 0.5)
    assert torch.allclose(zoomed.camera[:, :2], 2 * known.camera[:, :2])
    assert torch.allclose(zoomed.camera[:, 2], (known.camera[:, 2] - 0.2) / 0.5)
    assert torch.allclose(zoomed.window[:, 2:4], torch.full((3, 2), 0.5))
    turned = mirrored(known)
    assert torch.allclose(turned.camera[:, 2], 1 - known.camera[:, 2])
    again = mirrored(turned)
    assert torch.equal(again.images, known.images)
    assert torch.allclose(again.camera, known.camera)


def test_one_draw_for_all_pictures_of_a_sample(known):
    same = replace(known, images=known.images[:1].repeat(3, 1, 1, 1))
    for seed in range(5):
        varied = augmented(same, Augmentation(crop=1.0, gain=0.5), np.random.default_rng(seed))
        assert torch.equal(varied.images[0], varied.images[1])
        assert torch.equal(varied.images[0], varied.images[2])
        assert not torch.equal(varied.images[0], known.images[0])


def test_every_sample_comes_once_an_epoch_and_any_step_is_known_by_its_number():
    def taken(steps: range, share=(0, 1)):
        return list(Steps(23, 4, 7, steps, share))

    whole = taken(range(15))
    assert sorted({n for step in whole[:5] for n, _ in step}) == sorted(
        n for step in whole[:5] for n, _ in step
    )
    assert [epoch for step in whole for _, epoch in step] == [0] * 20 + [1] * 20 + [2] * 20
    assert taken(range(7, 15)) == whole[7:]
    halves = taken(range(15), (0, 2)), taken(range(15), (1, 2))
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == [sorted(s) for s in whole]
    with pytest.raises(ValueError, match='3 processes cannot share'):
        Steps(23, 4, 7, range(5), (0, 3))


def test_strides_are_drawn_from_those_that_have_neighbours(tmp_path):
    clip = prepared(hamlyn(made_data.hamlyn(tmp_path / 'data', list(range(9))))[0], tmp_path)
    samples = Samples([clip], strides=(1, 3), seed=1)
    assert (len(samples), samples.left_out) == (7, 2)
    seen = {
        tuple((samples[2, epoch].frames - samples[2, epoch].frames[0]).tolist())
        for epoch in range(12)
    }
    assert seen == {(0, -1, 1), (0, -3, 3)}
    with pytest.raises(ValueError, match='none of the 9 frames has its neighbours'):
        Samples([clip], strides=(20,))


def test_border_highlights_and_grey_metal_are_not_usable():
    image = made_data.picture(0)
    image[:20] = 0
    image[60:66, 70:76] = 250
    image[90:120, 100:150] = (150, 152, 155)
    kept = usable(image)
    assert not kept[:19].any()
    assert not kept[59:67, 69:77].any()
    assert not kept[95:115, 105:145].any()
    rest = np.ones_like(kept)
    rest[:24] = rest[54:72, 64:82] = rest[86:124, 96:154] = False
    assert kept[rest].mean() > 0.98
    assert usable(image, False, False, False).all()


def test_a_world_shows_its_field_stop_and_its_instrument_where_they_are_asked_for():
    pytest.importorskip('numba', reason='numba compiles the renderer: make setup-training')
    from training.data.worlds import worlds

    def first(**before):
        settings = ('colon', range(4, 5), 8, (48, 64), 'light', 0.6, 11.0, 1.0)
        return next(worlds(*settings, **before)[0].frames())

    plain, stopped, busy = first(), first(stop=0.3), first(instrument=True)
    assert np.isfinite(plain.depth).all()
    assert np.isnan(stopped.depth[0, 0])
    assert not stopped.image[0, 0].any()
    nearer = busy.depth < plain.depth - 0.5
    assert 0.005 < nearer.mean() < 0.7
    assert not np.array_equal(busy.image[nearer], plain.image[nearer])
    assert (busy.depth <= plain.depth).all()


def test_two_lists_of_one_keyframe_are_of_one_scope(tmp_path):
    """Else a tied focal length that training learnt would never be validated."""
    root, known, names = made_data.scared(tmp_path / 'data', list(range(1, 9))), {}, []
    for number, frames in enumerate(((2, 3), (6, 7))):
        path = tmp_path / f'{number}.txt'
        path.write_text(''.join(f'dataset3/keyframe4 {n} l\n' for n in frames))
        source = Source('scared', str(root), lists=[str(path)])
        names += [_with_own_name(clip, source, known).name for clip in scared(root, [path])]
    assert names == ['dataset3/keyframe4'] * 2


def test_worlds_of_other_settings_and_files_of_one_path_have_names_of_their_own(
    tmp_path, monkeypatch
):
    """Else their focal lengths would be tied, or one run be two from another folder."""
    worlds = [
        Source('worlds', focal=0.5), Source('worlds', focal=0.8), Source('worlds', focal=1.2),
    ]  # fmt: skip
    bags = [Source('stream', 'bag', topic='/left'), Source('stream', 'bag', topic='/right')]
    clips = [
        *((RawClip('colon_0_camera', f'{one.focal}', iter), one) for one in worlds),
        *((RawClip('bag', one.topic, iter), one) for one in bags),
    ]
    found = []
    for place in ('a', 'b'):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        known: dict[str, str] = {}
        found.append([_with_own_name(clip, source, known).name for clip, source in clips])
        assert [_with_own_name(clip, source, known).name for clip, source in clips] == found[-1]
    assert found[0] == found[1]
    assert len(set(found[0])) == len(clips)
