# SPDX-License-Identifier: Apache-2.0
"""The compact networks and the loop that trains them, on pairs made up or rendered here."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch: make setup-training')
onnx = pytest.importorskip('onnx', reason='bundles need onnx: make setup-training')
from safetensors.torch import save_file  # noqa: E402

from training.average import averaged, measure_norms  # noqa: E402
from training.bundle_writer import write_bundle  # noqa: E402
from training.compact import Run, depth_loss, loss_of, motion_loss, train  # noqa: E402
from training.export import TRIAL, compact_parts  # noqa: E402
from training.networks.compact import (  # noqa: E402
    LOG_SIGMA_RANGE,
    UNIT_MM,
    CompactDepth,
    CompactMotion,
    _matches,
)
from training.pairs import (  # noqa: E402
    FALLOFF,
    Batch,
    Pairs,
    _batch,
    _bounced,
    _cropped,
    _distances,
    _mirrored,
    augmented,
    batches,
)

H, W = 64, 96


@pytest.fixture
def world() -> dict[str, np.ndarray]:
    """Two pairs of nothing in particular, with motions and cameras that are not symmetric."""
    rng = np.random.default_rng(0)
    T = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    T[:, :3, :3] = [[[1, -0.01, 0.02], [0.01, 1, -0.03], [-0.02, 0.03, 1]]]
    T[:, :3, 3] = [[1.0, -2.0, 3.0], [0.5, 0.25, -1.0]]
    return {
        'images': rng.integers(0, 256, (2, 2, H, W, 3), np.uint8),
        'depths': rng.uniform(10, 90, (2, 2, H, W)).astype(np.float16),
        'T_prev_cam': T,
        'cameras': rng.uniform(0.4, 0.6, (2, 2, 4)).astype(np.float32),
    }


@pytest.fixture
def pairs(world: dict) -> Batch:
    return _batch(world)


def test_the_networks_keep_the_promised_size_and_ranges() -> None:
    depth, motion = CompactDepth().eval(), CompactMotion().eval()
    assert sum(p.numel() for p in depth.parameters()) < 7e6
    assert sum(p.numel() for p in motion.parameters()) < 4e6
    for size in ((224, 280), (224, 392), (112, 140)):
        log_depth, log_sigma, focal = depth(torch.rand(1, 3, *size))
        assert log_depth.shape == log_sigma.shape == (1, *size)
        assert focal.shape == (1, 2)
        low, high = LOG_SIGMA_RANGE
        assert ((log_sigma >= low) & (log_sigma <= high)).all()
    assert motion(torch.rand(2, 6, 112, 140)).shape == (2, CompactMotion.OUTPUTS)


def test_a_mirrored_pair_is_the_pair_a_mirrored_scope_would_have_seen(pairs: Batch) -> None:
    """Project a point through the mirrored motion and camera: it lies at the mirrored place."""
    mirrored = _mirrored(pairs, torch.tensor([True, True]))
    assert torch.equal(mirrored.images[0, 0], pairs.images[0, 0].flip(-1))
    point = torch.tensor([3.0, -2.0, 40.0, 1.0])  # in the current camera
    for n in range(2):
        fx, _, nx, _ = pairs.cameras[n, 0]
        seen = pairs.T_prev_cam[n] @ point
        u = float(fx * seen[0] / seen[2] + nx)
        fx, _, nx, _ = mirrored.cameras[n, 0]
        seen = mirrored.T_prev_cam[n] @ (point * torch.tensor([-1.0, 1.0, 1.0, 1.0]))
        assert float(fx * seen[0] / seen[2] + nx) == pytest.approx(1 - u, abs=1e-5)


def test_mirroring_twice_changes_nothing(pairs: Batch) -> None:
    which = torch.tensor([True, False])
    twice = _mirrored(_mirrored(pairs, which), which)
    for name, values in vars(pairs).items():
        assert torch.allclose(getattr(twice, name), values, atol=1e-6), name


def test_families_are_drawn_by_the_root_of_their_size(world: dict, tmp_path: Path) -> None:
    for name, many in (('bed', 9), ('heap', 1)):
        world['cameras'][..., 0] = 0.5 if name == 'bed' else 1.0
        for number in range(many):
            np.savez(tmp_path / f'{name}_{number}.npz', **world)
    drawn = Pairs(tmp_path).draw(np.random.default_rng(0), 400)
    heaps = drawn.cameras[:, 0, 0] == 1.0
    assert float(heaps.float().mean()) == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize('aspect', [5 / 4, 3 / 2, 7 / 4])
def test_a_cropped_picture_shows_a_point_where_its_cropped_camera_says(aspect: float) -> None:
    """A bright spot and the K that projects a ray onto it move together."""
    size = 200, 250
    v, u = torch.meshgrid(
        (torch.arange(size[0]) + 0.5) / size[0], (torch.arange(size[1]) + 0.5) / size[1],
        indexing='ij',
    )  # fmt: skip
    camera = torch.tensor([0.8, 1.0, 0.52, 0.47])
    ray = torch.tensor([0.05, -0.04])
    at = camera[:2] * ray + camera[2:]
    spot = torch.exp(-((u - at[0]) ** 2 + (v - at[1]) ** 2) / (2 * 0.02**2))
    images = spot.expand(3, 2, 3, *size).contiguous()
    batch = Batch(images, 10 + u.expand(3, 2, *size), torch.eye(4).expand(3, 4, 4),
                  camera.expand(3, 2, 4))  # fmt: skip
    cropped = _cropped(batch, aspect, np.random.default_rng(6))
    h, w = cropped.images.shape[-2:]
    assert w / h == pytest.approx(aspect, rel=0.01)
    for n in range(3):
        v, u = divmod(int(cropped.images[n, 0, 0].argmax()), w)
        expected = cropped.cameras[n, 0, :2] * ray + cropped.cameras[n, 0, 2:]
        assert (u + 0.5) / w == pytest.approx(float(expected[0]), abs=0.75 / w)
        assert (v + 0.5) / h == pytest.approx(float(expected[1]), abs=0.75 / h)
        assert float(cropped.depths[n, 0, v, u]) == pytest.approx(10 + float(at[0]), abs=0.01)


def test_the_true_depth_at_any_scale_has_no_error_but_the_scale_s(pairs: Batch) -> None:
    depth, camera = pairs.depths.flatten(0, 1), pairs.cameras.flatten(0, 1)
    depth[:, :10] = float('nan')
    truth = torch.nan_to_num(depth, nan=UNIT_MM).div(UNIT_MM).log()
    log_sigma = torch.full_like(truth, -3.0)
    focal = torch.stack([camera[:, 0].log(), torch.full((4,), -2.0)], 1)
    exact, figures = depth_loss(truth, log_sigma, focal, depth, camera)
    scaled, scaled_figures = depth_loss(truth + 0.7, log_sigma, focal, depth, camera)
    assert figures['abs_rel'] < 1e-5 and scaled_figures['abs_rel'] < 1e-5
    assert figures['focal'] < 1e-6
    assert scaled_figures['scale'] == pytest.approx(0.7, abs=1e-4)
    assert float(scaled - exact) == pytest.approx(0.07, abs=1e-4)
    noise = 0.3 * torch.randn_like(truth)
    noisy, _ = depth_loss(truth + noise, log_sigma, focal, depth, camera)
    assert float(noisy) > float(scaled) + 0.2


def test_sigma_is_best_where_it_is_the_error() -> None:
    torch.manual_seed(0)
    depth = torch.full((1, 80, 80), UNIT_MM)
    error = torch.distributions.Laplace(0.0, 0.2 / 2**0.5).sample((1, 80, 80))
    losses, camera = {}, torch.ones(1, 4)
    for sigma in (0.1, 0.2, 0.4):
        log_sigma = torch.full_like(error, float(np.log(sigma)))
        losses[sigma] = float(depth_loss(error, log_sigma, torch.zeros(1, 2), depth, camera)[0])
    assert losses[0.2] < min(losses[0.1], losses[0.4])


def test_the_true_motion_has_no_error(pairs: Batch) -> None:
    said = torch.zeros(2, CompactMotion.OUTPUTS)
    said[:, :3] = torch.tensor([0.03, 0.02, 0.01])  # the fixture's rotation, to first order
    said[:, 3:6] = pairs.T_prev_cam[:, :3, 3] / UNIT_MM
    said[:, 6] = pairs.cameras[:, 1, 0].log()
    said[:, 7] = (pairs.cameras[:, 1, 0] / pairs.cameras[:, 0, 0]).log()
    said[:, 8:10] = pairs.cameras[:, 1, 2:] - 0.5
    _, figures = motion_loss(said, pairs.T_prev_cam, pairs.cameras)
    assert figures['turn'] < 1e-4 and figures['shift'] < 1e-6
    assert figures['focal'] < 1e-6 and figures['zoom'] < 1e-6


def test_training_learns_stops_goes_on_and_sees_worlds_that_come_later(
    world: dict, tmp_path: Path
) -> None:
    yy = np.linspace(0, 1, H, dtype=np.float32)[:, None] * np.ones((1, W), np.float32)
    world['images'][:] = np.repeat((yy * 255).astype(np.uint8)[..., None], 3, -1)
    world['depths'][:] = 20 + 60 * yy
    np.savez(tmp_path / 'flat_0.npz', **world)
    pairs = Pairs(tmp_path)
    assert len(pairs) == 2
    drawn = next(batches(pairs, 4, 1, single=True))
    assert drawn.images.shape[:3] == (4, 1, 3) and drawn.depths.shape[0] == 4
    run = Run('depth', tmp_path / 'run', 'cpu', 2e-3, steps=60)
    train(run, tmp_path, 4, validation=None)
    again = Run('depth', tmp_path / 'run', 'cpu', 2e-3, steps=70)
    assert again.step == 60
    train(again, tmp_path, 4, validation=tmp_path)
    assert again.step == 70
    truth = _batch(world)
    with torch.no_grad():
        before = loss_of(CompactDepth(), truth)[1]['abs_rel']
        after = loss_of(again.network, truth)[1]['abs_rel']
    assert after < 0.6 * before
    np.savez(tmp_path / 'flat_1.npz', **world)
    pairs.look_again()
    assert len(pairs) == 4


def test_a_motion_network_starts_from_a_depth_network_s_encoder(tmp_path: Path) -> None:
    depth = Run('depth', tmp_path / 'depth', 'cpu', 1e-3, steps=1)
    depth.save()
    motion = Run('motion', tmp_path / 'motion', 'cpu', 1e-3, steps=1)
    motion.start_from(tmp_path / 'depth', torch.empty(0))
    for name in ('stem.conv.weight', 'near.1.first.weight'):
        theirs = depth.network.state_dict()['encoder.' + name.replace('near.', 'stages.0.')]
        assert torch.equal(motion.network.state_dict()[name], theirs)


def test_a_run_from_another_s_weights_remembers_its_steps(pairs: Batch, tmp_path: Path) -> None:
    before = Run('depth', tmp_path / 'before', 'cpu', 1e-3, steps=2)
    before.advance(pairs)
    before.save()
    after = Run('depth', tmp_path / 'after', 'cpu', 1e-3, steps=2)
    after.start_from(tmp_path / 'before', torch.empty(0))
    assert after.step == 0
    moments = after.optimizer.state_dict()['state']
    assert len(moments) == len(list(after.network.parameters()))
    assert moments[0]['exp_avg_sq'].any()
    head = after.network.state_dict()['head.weight']
    assert torch.equal(head, before.average['head.weight'])


def test_a_run_goes_on_from_a_bundle_as_if_it_were_its_network(tmp_path: Path) -> None:
    torch.manual_seed(3)
    pictures = torch.rand(4, 3, 64, 80)
    (tmp_path / 'run').mkdir()
    before = CompactDepth()
    with torch.no_grad():
        for _ in range(3):
            before(torch.rand(4, 3, 64, 80))  # norms that have seen something
        for value in before.parameters():  # and no parameter at its start
            value.mul_(1.0 + 0.2 * torch.rand_like(value)).add_(0.01 * torch.randn_like(value))
    save_file(before.state_dict(), tmp_path / 'run' / 'weights.safetensors')
    write_bundle(tmp_path / 'bundle', *compact_parts(tmp_path / 'run'), TRIAL, '1.0.0')
    run = Run('depth', tmp_path / 'new', 'cpu', 1e-3, steps=1)
    run.start_from(tmp_path / 'bundle', pictures)
    other = torch.rand(1, 3, 96, 64)
    with torch.no_grad():
        for ours, theirs in zip(run.network.eval()(other), before.eval()(other), strict=True):
            assert torch.allclose(ours, theirs, atol=5e-3)
        as_it_was = run.network.eval()(pictures)[0]
        assert torch.allclose(run.network.train()(pictures)[0], as_it_was, atol=0.05)
    graph = onnx.load(tmp_path / 'bundle' / 'depth.onnx')
    graph.graph.node.remove(next(n for n in graph.graph.node if '/mixes.3/' in n.name))
    onnx.save(graph, tmp_path / 'bundle' / 'depth.onnx')
    with pytest.raises(ValueError, match=r'depth\.onnx: found another network'):
        run.start_from(tmp_path / 'bundle', pictures)


def test_an_average_lies_between_and_its_norms_are_measured_again() -> None:
    torch.manual_seed(4)
    ours, theirs = CompactDepth(), CompactDepth()
    assert torch.equal(averaged(ours, theirs, 1.0).head.weight, ours.head.weight)
    mixed = averaged(ours, theirs, 0.25)
    there = theirs.head.weight + 0.25 * (ours.head.weight - theirs.head.weight)
    assert torch.allclose(mixed.head.weight, there)
    pictures = [torch.rand(2, 3, 64, 80) for _ in range(3)]
    measure_norms(mixed, pictures)
    assert not mixed.training
    stem = mixed.encoder.stem
    with torch.no_grad():
        means = [stem.conv(2.0 * batch - 1.0).mean((0, 2, 3)) for batch in pictures]
    assert torch.allclose(stem.norm.running_mean, torch.stack(means).mean(0), atol=1e-5)


def test_half_precision_says_the_same_within_its_rounding(pairs: Batch) -> None:
    torch.manual_seed(1)
    network = CompactDepth().to(memory_format=torch.channels_last)
    with torch.no_grad():
        whole, half = (float(loss_of(network, pairs, half)[0]) for half in (False, True))
    assert whole != half
    assert half == pytest.approx(whole, rel=0.02)


def test_a_place_matches_where_it_came_from() -> None:
    torch.manual_seed(0)
    previous = torch.nn.functional.normalize(torch.randn(1, 16, 20, 24), dim=1)
    current = previous.roll((1, -2), (2, 3))  # one down, two to the left
    best = _matches(previous, current, 4)[0, :, 6:-6, 6:-6].argmax(0)
    assert (best == (4 - 1) * 9 + (4 + 2)).all()


def test_an_augmented_batch_is_finite_and_in_range(pairs: Batch) -> None:
    for seed in range(5):
        batch = augmented(pairs, np.random.default_rng(seed))
        assert torch.isfinite(batch.images).all()
        assert batch.images.min() >= 0 and batch.images.max() <= 1


def wall(slant: float = 0.0) -> Batch:
    """A grey wall 40 mm away that leans back to the right, lit from the camera: cos / r^2."""
    camera = torch.tensor([0.5, 0.5 * W / H, 0.5, 0.5]).expand(3, 1, 4)
    v, u = torch.meshgrid((torch.arange(H) + 0.5) / H, (torch.arange(W) + 0.5) / W, indexing='ij')
    x, y = (u - 0.5) / 0.5, (v - 0.5) * H / W / 0.5
    depth = 40.0 / (1.0 - slant * x)
    ray = depth * torch.sqrt(x * x + y * y + 1.0)
    cosine = (40.0 / np.hypot(1.0, slant)) / ray
    light = 0.1 * cosine * (40.0 / ray) ** 2
    images = (light ** (1 / 2.2)).expand(3, 1, 3, H, W)
    return Batch(images, depth.expand(3, 1, H, W), torch.eye(4).expand(3, 4, 4), camera)


def test_the_angle_of_the_light_is_that_of_the_wall() -> None:
    batch = wall(slant=0.6)
    ray, cosine = _distances(batch.depths, batch.cameras)
    true = (40.0 / np.hypot(1.0, 0.6)) / ray
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert torch.allclose(cosine[inner], true[inner].clamp(0.4, 1.0), atol=0.01)


def test_bounced_light_falls_off_by_less_than_the_scope_s_own_and_is_redder() -> None:
    """What is added to a lit wall is red above all, and over distance as slow as FALLOFF says."""
    batch = wall(slant=0.6)
    before, ray = batch.images**2.2, batch.depths
    changed = 0
    for seed in range(12):
        after = _bounced(batch, np.random.default_rng(seed)).images ** 2.2
        assert after.mean((1, 2, 3, 4)) == pytest.approx(before.mean((1, 2, 3, 4)), rel=0.05)
        for one in range(3):
            gain = (after / before)[one, 0]
            if float(gain.std()) < 1e-3:
                assert torch.allclose(gain, torch.ones_like(gain), atol=1e-3)
                continue
            changed += 1
            far, near = (ray[one, 0] - 45.0).abs() < 4.0, ray[one, 0] < 30.0
            rise = [float(gain[c][far].mean() / gain[c][near].mean()) for c in range(3)]
            assert rise[0] > rise[1] > 1.0 and rise[0] > rise[2] > 1.0
            most = float((ray[one, 0][far].mean() / ray[one, 0][near].mean()) ** 2)
            assert rise[0] < 1.5 * most  # never brighter than even light would be
    assert changed > 15 and FALLOFF[1] < 2.0


def test_weights_are_written_whole_and_no_state_is_newer(tmp_path, monkeypatch) -> None:
    run = Run('depth', tmp_path, 'cpu', 1e-3, steps=2)
    run.save()
    before = [(tmp_path / name).read_bytes() for name in ('weights.safetensors', 'state.pt')]

    def full(weights, path):
        Path(path).write_bytes(b'half')
        raise OSError('no room')

    monkeypatch.setattr('training.compact.save_file', full)
    run.step = 1
    with pytest.raises(OSError, match='no room'):
        run.save()
    after = [(tmp_path / name).read_bytes() for name in ('weights.safetensors', 'state.pt')]
    assert after == before
