# SPDX-License-Identifier: Apache-2.0
"""Released weights become a bundle that says what the definition says, or nothing is written."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch: make setup-training')
pytest.importorskip('peft', reason='the paper networks need peft: make setup-training')
import definition  # noqa: E402
from released_weights import depth_weights, motion_weights, write_released  # noqa: E402
from tiny import tiny_config  # noqa: E402

from endosfm3d_ros.bags.frames import open_frames  # noqa: E402
from endosfm3d_ros.bags.source import FrameSource  # noqa: E402
from endosfm3d_ros.bundle import K_PLAIN, Bundle, open_bundle  # noqa: E402
from endosfm3d_ros.core.frame import Frame  # noqa: E402
from endosfm3d_ros.engines.choose import (  # noqa: E402
    RUNTIMES,
    DepthGraphs,
    motion_network,
)
from endosfm3d_ros.engines.loading import KINDS, Options, make  # noqa: E402
from endosfm3d_ros.parameters import DEFAULTS  # noqa: E402
from endosfm3d_ros.replay import replay  # noqa: E402
from training import __main__ as command_line  # noqa: E402
from training.bundle_writer import write_bundle  # noqa: E402
from training.networks.depth_anything import DepthAnything  # noqa: E402
from training.paper import PaperModel, bundle_facts, bundle_parts  # noqa: E402
from training.parity import parity_pictures  # noqa: E402
from training.released import read_depth, read_motion, read_released  # noqa: E402
from training.state_dicts import WeightsError  # noqa: E402

ROOT = Path(__file__).parents[2]
DEMO = ROOT / 'endosfm3d_ros' / 'demo_clip' / 'clip.mp4'
PREFIX = 'backbone.base_model.model.'
BOUND = 1e-4  # of the output's norm
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def training(*arguments: object) -> Done:
    """Run `python -m training ...` here, where torch is loaded already."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['training', *map(str, arguments)])
        with redirect_stdout(out), redirect_stderr(err):
            code = command_line.main()
    return Done(code, out.getvalue(), err.getvalue())


# Full size: one import, looked at from all sides.


@pytest.fixture(scope='module')
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_released(tmp_path_factory.mktemp('released'))


@pytest.fixture(scope='module')
def imported(released: Path) -> Bundle:
    bundle = released.parent / 'theirs'
    done = training('import-released', released, bundle, '--no-half')
    assert done.returncode == 0, done.stderr
    assert 'depth and motion' in done.stdout and 'motion 256x320 fp32 openvino' in done.stdout
    return open_bundle(str(bundle))


@pytest.fixture(scope='module')
def pictures() -> list[tuple[np.ndarray, ...]]:
    """A rendered pair and one of noise."""
    return list(parity_pictures(256, 320, 2))


def tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_the_manifest_says_how_the_weights_want_to_be_fed(imported: Bundle) -> None:
    assert imported.sizes == ((256, 320),) and imported.unit_mm == 240
    assert imported.depth_range == pytest.approx((0.1 * 240, 150 * 240))
    assert imported.intrinsics == K_PLAIN
    assert imported.input['values'] == 'RGB in [0, 1]'
    assert imported.input['normalisation'] == 'none'
    assert imported.input['positions'] == 'resized'
    assert '252x308, stretched over 256x320' in imported.input['patches']
    assert max(imported.card['parity'].values()) < BOUND and len(imported.card['parity']) == 8


@pytest.fixture(scope='module')
def disparities(released: Path, pictures: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """What the definition says of the first picture of each pair."""
    weights = torch.load(released / 'depth_model.pth', weights_only=True)
    with torch.no_grad():
        return [
            definition.disparity(weights, tensor(picture))[0, 0].double().numpy()
            for picture, _ in pictures
        ]


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_depth_is_that_of_the_definition(
    imported: Bundle,
    pictures: list[tuple[np.ndarray, ...]],
    disparities: list[np.ndarray],
    runtime: str,
) -> None:
    engine = make(imported.depth[0], KINDS[runtime][-1], Options())
    for (picture, _), disparity in zip(pictures, disparities, strict=True):
        assert disparity.std() > 0.05
        wanted = 1 / 150 + (1 / 0.1 - 1 / 150) * disparity
        assert off(1 / engine.run(picture)['depth'].astype(float), wanted) < BOUND


@pytest.fixture(scope='module')
def motions(released: Path, pictures: list[tuple[np.ndarray, ...]]) -> list[list[np.ndarray]]:
    """What the definition says of each pair: axis-angle, translation, K [px]."""
    encoder, decoder = (
        torch.load(released / name, weights_only=True) for name in ('pose_encoder.pth', 'pose.pth')
    )
    pairs = [torch.cat([tensor(a), tensor(b)], dim=1) for a, b in pictures]
    with torch.no_grad():
        said = [definition.motion(encoder, decoder, pair) for pair in pairs]
    return [[value.double().numpy() for value in one] for one in said]


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_motion_and_k_are_those_of_the_definition(
    imported: Bundle,
    pictures: list[tuple[np.ndarray, ...]],
    motions: list[list[np.ndarray]],
    runtime: str,
) -> None:
    engine = make(imported.motion[0], KINDS[runtime][-1], Options())
    for (previous, current), wanted in zip(pictures, motions, strict=True):
        said = engine.run(previous, current)
        assert off(said['axis_angle'], wanted[0]) < BOUND
        assert off(said['translation'], wanted[1]) < BOUND
        assert off(said['intrinsics'] * np.array([320, 256, 320, 256]), wanted[2]) < BOUND


def test_the_motion_network_says_it_in_millimetres_and_pixels(
    imported: Bundle, pictures: list[tuple[np.ndarray, ...]], motions: list[list[np.ndarray]]
) -> None:
    network = motion_network(imported)
    assert network
    for (previous, current), wanted in zip(pictures, motions, strict=True):
        told = network(previous, current)
        assert off(told.T_prev_cam[:3, 3], 240 * wanted[1]) < BOUND
        camera = told.camera(320, 256)
        assert [camera.fx, camera.fy, camera.cx, camera.cy] == pytest.approx(wanted[2], rel=1e-4)


def test_the_last_four_rows_and_twelve_columns_change_nothing(
    imported: Bundle, pictures: list[tuple[np.ndarray, ...]]
) -> None:
    network = DepthGraphs(imported)
    picture = pictures[0][0]
    changed = picture.copy()
    changed[252:], changed[:, 308:] = 0, 255
    before, after = network(picture).depth, network(changed).depth
    assert np.isfinite(before).all() and np.array_equal(before, after)
    changed[251] = 0
    assert not np.array_equal(before, network(changed).depth)


@pytest.mark.parametrize('motion', [True, False])
def test_replay_runs_it_with_the_same_topics_depth_only_too(
    imported: Bundle, motion: bool, tmp_path: Path
) -> None:
    folder = imported.folder
    if not motion:  # the same manifest without motion, as an import of a depth file alone writes
        folder = tmp_path / 'depth_only'
        folder.mkdir()
        os.link(imported.depth[0].path, folder / imported.depth[0].path.name)
        raw = json.loads((imported.folder / 'model.json').read_text())
        raw['graphs']['motion'], raw['intrinsics'] = [], 'none'
        (folder / 'model.json').write_text(json.dumps(raw))
    assert (motion_network(open_bundle(str(folder))) is not None) is motion
    done = replay(
        _First(open_frames(DEMO), 4), tmp_path / 'run.mcap', {**DEFAULTS, 'model': str(folder)}
    )
    assert done.frames == 4 and done.refused == 0
    topics = _topics(tmp_path / 'run.mcap')
    assert {'/tf', '/endosfm3d/depth/image', '/endosfm3d/rgb/camera_info',
            '/endosfm3d/odometry', '/endosfm3d/status'} <= topics  # fmt: skip


class _First(FrameSource):
    """The first frames of a source."""

    def __init__(self, source: FrameSource, count: int) -> None:
        super().__init__(source.path, source.rate, count)
        self.source = source

    def __iter__(self) -> Iterator[Frame]:
        return islice(iter(self.source), self.count)


def _topics(bag: Path) -> set[str]:
    from mcap.reader import make_reader

    with bag.open('rb') as file:
        return {channel.topic for channel in make_reader(file).get_summary().channels.values()}


# In miniature: every spelling, every refusal.


@pytest.fixture
def tiny() -> Weights:
    return depth_weights(network=DepthAnything(imagenet=False, config=tiny_config()).adapt())


def read_tiny(path: Path, weights: Weights) -> DepthAnything:
    torch.save(weights, path)
    return read_depth(path, tiny_config())


def said_by(network: DepthAnything) -> torch.Tensor:
    with torch.no_grad():
        return network(torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0)))


NEW_NAMES = {
    '.attention.attention.query.': '.attention.q_proj.',
    '.attention.attention.key.': '.attention.k_proj.',
    '.attention.attention.value.': '.attention.v_proj.',
    '.attention.output.dense.': '.attention.o_proj.',
}


def as_transformers_5(name: str) -> str:
    for old, new in NEW_NAMES.items():
        name = name.replace(old, new)
    return name


@pytest.mark.parametrize(
    'spelled',
    [
        as_transformers_5,
        lambda name: name.replace('magnitude_vector.default.weight', 'magnitude_vector.default'),
        lambda name: f'module.{name}',
        lambda name: f'module.{as_transformers_5(name)}'.replace('r.default.weight', 'r.default'),
        lambda name: name.replace(PREFIX, 'backbone.'),
    ],
)
def test_every_spelling_of_the_keys_is_the_same_network(
    tmp_path: Path, tiny: Weights, spelled: Callable[[str], str]
) -> None:
    wanted = said_by(read_tiny(tmp_path / 'a.pth', tiny))
    other = {spelled(name): value for name, value in tiny.items()}
    assert set(other) != set(tiny)
    found = said_by(read_tiny(tmp_path / 'b.pth', other))
    assert torch.equal(found, wanted) and wanted.std() > 1e-3


def merged_by_hand(weights: Weights, dora: bool) -> Weights:
    """Plain weights that say what the adapters say: W + 16/14 B A, rows at length m with DoRA."""
    plain = {k.replace('.base_layer', ''): v for k, v in weights.items() if 'lora_' not in k}
    for name in [k for k in weights if k.endswith('.base_layer.weight')]:
        stem = name.removesuffix('.base_layer.weight')
        W = weights[name] + 16 / 14 * (
            weights[f'{stem}.lora_B.default.weight'] @ weights[f'{stem}.lora_A.default.weight']
        )
        if dora:
            m = weights[f'{stem}.lora_magnitude_vector.default.weight']
            W = W * (m / W.norm(dim=1))[:, None]
        plain[f'{stem}.weight'] = W
    return plain


@pytest.mark.parametrize('dora', [True, False])
@pytest.mark.parametrize('prefix', [PREFIX, 'backbone.'])
def test_lora_without_dora_and_full_fine_tunes_are_read_too(
    tmp_path: Path, tiny: Weights, dora: bool, prefix: str
) -> None:
    adapted = tiny if dora else {k: v for k, v in tiny.items() if 'magnitude' not in k}
    plain = {k.replace(PREFIX, prefix): v for k, v in merged_by_hand(tiny, dora).items()}
    beside = said_by(read_tiny(tmp_path / 'a.pth', adapted))
    tuned = said_by(read_tiny(tmp_path / 'b.pth', plain))
    assert (beside - tuned).norm() < 1e-5 * tuned.norm()


KEY = f'{PREFIX}encoder.layer.2.attention.attention.query.lora_A.default.weight'


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda w: w.pop(KEY), f'missing key {KEY}'),
        (lambda w: w.pop('head.conv3.bias'), 'missing key head.conv3.bias'),
        (lambda w: w.update({'head.conv4.bias': torch.ones(1)}), 'extra key head.conv4.bias'),
        (
            lambda w: w.update({KEY: torch.ones(13, 24)}),
            rf'{KEY} is \(13, 24\), needed \(14, 24\)',
        ),
        (lambda w: w.update({KEY: torch.full((14, 24), torch.nan)}), f'{KEY} holds .* not finite'),
        (lambda w: w.update({'epoch': 3}), "'epoch' is a int, needed a tensor"),
        (lambda w: w.update({'optimizer': {'lr': 1.0}}), "'optimizer' is a dict, needed a tensor"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, tiny: Weights, change: Callable[[Weights], object], said: str
) -> None:
    change(tiny)
    with pytest.raises(WeightsError, match=said) as refusal:
        read_tiny(tmp_path / 'depth_model.pth', tiny)
    assert 'depth_model.pth' in str(refusal.value) and '\n' not in str(refusal.value)


@pytest.mark.parametrize('file', ['pose_encoder.pth', 'pose.pth'])
def test_a_motion_key_too_many_or_too_few_is_refused_by_name(tmp_path: Path, file: str) -> None:
    both = dict(zip(('pose_encoder.pth', 'pose.pth'), motion_weights(), strict=True))
    paths = [tmp_path / name for name in both]
    key = sorted(both[file])[3]
    value = both[file].pop(key)
    both[file]['surprise'] = value
    for path in paths:
        torch.save(both[path.name], path)
    with pytest.raises(WeightsError, match=f'{file}: missing key {key}; extra key surprise'):
        read_motion(*paths)


def test_motion_files_of_a_dataparallel_run_are_read_too(tmp_path: Path) -> None:
    encoder, decoder = motion_weights()
    paths = [tmp_path / 'pose_encoder.pth', tmp_path / 'pose.pth']
    for path, weights in zip(paths, (encoder, decoder), strict=True):
        torch.save({f'module.{name}': value for name, value in weights.items()}, path)
    network = read_motion(*paths)
    assert torch.equal(network.decoder.net[0].weight, decoder['net.0.weight'])
    assert not hasattr(network.encoder.encoder, 'fc')


class RunsCode:
    """A pickle of this runs a command when it is read carelessly."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f'touch {self.mark}',)


def test_a_pickle_that_wants_to_run_code_is_refused_by_name_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    folder, mark = tmp_path / 'weights', tmp_path / 'it_ran'
    folder.mkdir()
    torch.save({'head.conv1.weight': RunsCode(mark)}, folder / 'depth_model.pth')
    done = training('import-released', folder, tmp_path / 'bundle')
    assert done.returncode == 1 and not mark.exists()
    assert 'depth_model.pth: it wants to run posix.system' in done.stderr
    assert done.stderr.count('\n') == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ['weights']


@pytest.mark.parametrize(
    'content', [b'', b'no weights', b'PK\x03\x04 cut short', b'\x80\x02}q\x00.', bytes(range(256))]
)
def test_a_file_that_is_no_state_dict_is_refused_in_one_line(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / 'depth_model.pth'
    path.write_bytes(content)
    with pytest.raises(WeightsError, match='depth_model.pth') as refusal:
        read_depth(path, tiny_config())
    assert '\n' not in str(refusal.value)


def test_a_folder_that_lacks_a_file_is_refused_with_the_file_s_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match='no such folder'):
        read_released(tmp_path / 'nowhere')
    with pytest.raises(WeightsError, match=r'depth_model.pth is missing, found no .pth file'):
        read_released(tmp_path)
    (tmp_path / 'depth_model.pth').write_bytes(b'')
    (tmp_path / 'pose.pth').write_bytes(b'')
    with pytest.raises(WeightsError, match=r'pose_encoder.pth is missing beside pose.pth'):
        read_released(tmp_path)


def test_a_refusal_leaves_what_was_there(tmp_path: Path, tiny: Weights) -> None:
    weights = tmp_path / 'weights'
    weights.mkdir()
    torch.save(tiny, weights / 'depth_model.pth')  # of another size than Depth Anything V2 Small
    notes = tmp_path / 'notes'
    notes.mkdir()
    (notes / 'mine.txt').write_text('mine')
    done = training('import-released', weights, notes)
    assert done.returncode == 1 and 'is there and no model bundle' in done.stderr
    done = training('import-released', weights, tmp_path / 'bundle')
    assert done.returncode == 1 and 'missing key' in done.stderr and done.stderr.count('\n') == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ['notes', 'weights']
    assert (notes / 'mine.txt').read_text() == 'mine'


def test_an_import_of_depth_alone_is_a_bundle_without_motion(
    tmp_path: Path, tiny: Weights
) -> None:
    torch.save(tiny, tmp_path / 'depth_model.pth')
    depth = read_depth(tmp_path / 'depth_model.pth', tiny_config(), old_positions=True)
    model = PaperModel(depth, None, 64, 80, 240.0, {})
    rows = write_bundle(
        tmp_path / 'mini', bundle_parts(model, half=False), bundle_facts(model), {}, '1.0.0'
    )
    bundle = open_bundle(str(tmp_path / 'mini'))
    assert bundle.motion == () and bundle.intrinsics == 'none'
    assert motion_network(bundle) is None
    assert bundle.input['positions'] == 'scaled by (n + 0.1) / 37'
    assert {row.precision for row in rows} == {'fp32'}
    assert all(row.error < row.bound for row in rows)
