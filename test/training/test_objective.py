# SPDX-License-Identifier: Apache-2.0
"""Laws of the objective: true depth, motion and K leave the interpolation floor, and only they."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip('torch', reason='torch trains: make setup-training')
pytest.importorskip('numba', reason='numba compiles the renderer: make setup-training')

import torch

from training import objective
from training.networks.appearance_flow import AppearanceNetwork, refined_target, registered
from training.objective import (
    depth_inconsistency,
    distilled,
    masked_mean,
    motions,
    ms_ssim,
    photometric,
    project,
    sample,
    smoothness,
    ssim,
    supervised,
    zoom_roughness,
)
from training.synthetic.camera import Camera, Scope, fly
from training.synthetic.light import Light
from training.synthetic.render import View, render
from training.synthetic.tube import make_tube

WIDTH, HEIGHT = 160, 128
SCOPE = Scope(stop_radius=0.9)


@pytest.fixture(scope='module')
def pair() -> list[tuple[View, Camera]]:
    """A tube, three frames and a turn apart: the camera advances and zooms. Source first."""
    world = make_tube(4, length=110.0, cell=1.0)
    path = fly(world, 4, 40, zooms=((0.0, 1.0), (1.6, 1.6)))
    turn = np.eye(4)
    turn[:3, :3] = cv2.Rodrigues(np.array([0.10, -0.12, 0.15]))[0]
    poses = path.T_world_cam[20], path.T_world_cam[23] @ turn
    zooms = path.zoom[[20, 23]]
    cameras = [SCOPE.camera(T, z, WIDTH, HEIGHT) for T, z in zip(poses, zooms, strict=True)]
    light = replace(Light.pair(), focus=3.0)
    return [(render(world, light, c, everywhere=True), c) for c in cameras]


def camera_of(camera: Camera) -> torch.Tensor:
    K = camera.K
    values = K[0, 0] / WIDTH, K[1, 1] / HEIGHT, (K[0, 2] + 0.5) / WIDTH, (K[1, 2] + 0.5) / HEIGHT
    return torch.tensor([values], dtype=torch.float32)


def picture(linear: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(linear.astype(np.float32)).permute(2, 0, 1)[None].clamp(0, 1)


def known_depth(view: View) -> torch.Tensor:
    return torch.from_numpy(view.depth)[None, None]


def T_source_target(pair) -> torch.Tensor:
    (_, source), (_, target) = pair
    T = np.linalg.inv(source.T_world_cam) @ target.T_world_cam
    return torch.from_numpy(T.astype(np.float32))[None]


def warp_error(pair, T=None, camera_target=None, camera_source=None, channel='albedo') -> float:
    """Mean L1 of the source warped onto the target, where the source sees the same surface."""
    (source, a), (target, b) = pair
    depth = known_depth(target)
    projection = project(
        depth,
        T_source_target(pair) if T is None else T,
        camera_of(b) if camera_target is None else camera_target,
        camera_of(a) if camera_source is None else camera_source,
    )
    true = project(depth, T_source_target(pair), camera_of(b), camera_of(a))
    there = sample(known_depth(source), true.pixels)
    same = ((there - true.depth).abs() < 0.02 * true.depth) & true.inside
    mask = (same & torch.isfinite(depth)).float()
    warped = sample(picture(getattr(source, channel)), projection.pixels)
    return float(masked_mean((warped - picture(getattr(target, channel))).abs(), mask))


def interpolation_floor(pair) -> float:
    """What bilinear reading alone costs: the target read half a pixel off, and back again."""
    target = picture(pair[1][0].albedo)
    v, u = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing='ij')
    pixels = torch.stack([u, v], -1)[None].float()
    twice = sample(sample(target, pixels + 0.5), pixels - 0.5)
    return float((twice - target).abs()[..., 4:-4, 4:-4].mean())


def test_true_depth_motion_and_K_leave_the_interpolation_floor(pair):
    assert warp_error(pair) < interpolation_floor(pair)


def shifted(camera: torch.Tensor, u: float = 0.0, v: float = 0.0) -> torch.Tensor:
    return camera + torch.tensor([[0.0, 0.0, u / WIDTH, v / HEIGHT]])


def wrong_ways(pair) -> dict[str, dict[str, torch.Tensor]]:
    """Every way to get a sign, an order or half a pixel wrong."""
    (_, a), (_, b) = pair
    T = T_source_target(pair)
    R, t = T[:, :3, :3], T[:, :3, 3:]
    there, here = camera_of(a), camera_of(b)

    def motion(R: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.cat([R, t], 2), torch.tensor([[[0.0, 0.0, 0.0, 1.0]]])], 1)

    flips = {name: torch.diag(torch.tensor(d)) for name, d in
             (('x', [-1.0, 1, 1]), ('y', [1.0, -1, 1]), ('z', [1.0, 1, -1]))}  # fmt: skip
    return {
        'target_T_source': {'T': torch.linalg.inv(T)},
        'R transposed': {'T': motion(R.transpose(1, 2), t)},
        't the other way': {'T': motion(R, -t)},
        'Rot Trans instead of Trans Rot': {'T': motion(R, R @ t)},
        'no rotation': {'T': motion(torch.eye(3)[None], t)},
        **{f't mirrored in {n}': {'T': motion(R, M @ t)} for n, M in flips.items()},
        **{f'R mirrored in {n}': {'T': motion(M @ R @ M, t)} for n, M in flips.items()},
        'cameras exchanged': {'camera_target': there, 'camera_source': here},
        'one K for both': {'camera_target': here, 'camera_source': here},
        'lifted half a pixel to the right': {'camera_target': shifted(here, u=0.5)},
        'lifted half a pixel down': {'camera_target': shifted(here, v=0.5)},
        'read half a pixel to the right': {'camera_source': shifted(there, u=0.5)},
        'read half a pixel down': {'camera_source': shifted(there, v=0.5)},
        'K of the other aspect': {'camera_source': there[:, [1, 0, 3, 2]]},
    }


def test_any_wrong_sign_order_or_half_pixel_shows(pair):
    true = warp_error(pair)
    found = {name: warp_error(pair, **wrong) / true for name, wrong in wrong_ways(pair).items()}
    assert min(found.values()) > 1.15, found


def test_a_camera_s_matrix_is_that_of_its_picture_half_pixels_and_all(pair):
    """An error of both matrices alike hardly shows in a warp."""
    for _, camera in pair:
        K = objective.camera_matrices(camera_of(camera), HEIGHT, WIDTH)[0]
        assert K.numpy() == pytest.approx(camera.K, rel=1e-5, abs=1e-4)


def test_only_what_lies_in_front_of_the_source_and_in_its_picture_is_inside():
    camera = torch.tensor([[0.8, 1.0, 0.5, 0.5]])
    T = torch.eye(4)[None].repeat(3, 1, 1)
    T[0, 1, 3], T[1, 0, 3], T[2, 2, 3] = 10.0, -10.0, -50.0  # 32 px up, as many right, behind all
    depth = torch.full((3, 1, HEIGHT, WIDTH), 40.0)
    both = camera.expand(3, -1)
    inside = project(depth, T, both, both).inside[:, 0]
    assert inside[0].all(dim=1).tolist() == [v < HEIGHT - 32 for v in range(HEIGHT)]
    assert inside[1].all(dim=0).tolist() == [u >= 32 for u in range(WIDTH)]
    assert not inside[2].any()


def test_of_all_scales_only_the_coarsest_minds_a_brightness_that_is_off():
    dark, bright = (torch.full((1, 3, 176, 176), grey) for grey in (0.4, 0.6))
    luminance = (2 * 0.4 * 0.6 + objective.SSIM_C1) / (0.4**2 + 0.6**2 + objective.SSIM_C1)
    expected = luminance ** objective.MS_SSIM_WEIGHTS[-1]
    assert float(ms_ssim(dark, bright)) == pytest.approx(expected, rel=1e-3)
    everything = torch.ones(1, 1, 176, 176)  # nine tenths of it, and a tenth of the difference
    said = [float(photometric(dark, bright, everything, scales)) for scales in (False, True)]
    assert said[0] == pytest.approx(0.9 * (1 - luminance) + 0.1 * 0.2, rel=1e-3)
    assert said[1] == pytest.approx(0.9 * (1 - expected) + 0.1 * 0.2, rel=1e-3)


@pytest.mark.parametrize('mistake', ['corners', 'centre'])
def test_a_sampler_with_another_convention_shows(pair, monkeypatch, mistake):
    true = warp_error(pair)

    def wrong(source, pixels):
        size = pixels.new_tensor([WIDTH, HEIGHT])
        if mistake == 'corners':  # made for align_corners=True, read without
            grid = 2 * pixels / (size - 1) - 1
        else:  # the corner of a pixel taken for its centre
            grid = 2 * pixels / size - 1
        return torch.nn.functional.grid_sample(source, grid, 'bilinear', 'border', False)

    monkeypatch.setattr(objective, 'sample', wrong)
    monkeypatch.setitem(globals(), 'sample', wrong)
    assert warp_error(pair) > 1.1 * true


def test_light_falloff_breaks_constancy_and_the_appearance_network_repairs_it(pair):
    (source, a), (target, b) = pair
    torch.manual_seed(0)
    depth = known_depth(target)
    projection = project(depth, T_source_target(pair), camera_of(b), camera_of(a))
    gain = 0.25 / np.nanmean(target.radiance)
    there, here = (picture(view.radiance * gain) for view in (source, target))
    mask = (projection.inside & torch.isfinite(depth)).float()
    registered = sample(there, projection.pixels)

    def error(refined: torch.Tensor) -> torch.Tensor:
        return masked_mean((registered - refined).abs(), mask)

    broken = float(error(here))
    assert broken > 4 * warp_error(pair)
    halves = (torch.nn.functional.avg_pool2d(x, 2) for x in (registered, here, mask))
    registered, here, mask = halves  # a quarter of the work
    network = AppearanceNetwork()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    left = []
    for _ in range(45):
        change = network(torch.cat([registered, here], 1))[0]
        loss = error(refined_target(here, change, mask))
        left.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert np.median(left[-15:]) < 0.5 * float(error(here))  # single steps go up and down


def test_motions_are_those_of_rodrigues():
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 0.5, (5, 3))
    vectors[0] = 0
    T = motions(torch.from_numpy(vectors), torch.from_numpy(rng.normal(size=(5, 3))))
    expected = np.stack([cv2.Rodrigues(v)[0] for v in vectors])
    np.testing.assert_allclose(T[:, :3, :3].numpy(), expected, atol=1e-12)


def test_equal_pictures_are_alike_and_noise_is_not():
    a = torch.rand(2, 3, 176, 176, generator=torch.Generator().manual_seed(0))
    b = torch.rand(2, 3, 176, 176, generator=torch.Generator().manual_seed(1))
    everywhere = torch.ones(2, 1, 176, 176)
    assert torch.allclose(ssim(a, a), torch.ones_like(a), atol=1e-4)
    assert torch.allclose(ms_ssim(a, a), torch.ones(2), atol=1e-4)
    for multi_scale in (False, True):
        assert float(photometric(a, a, everywhere, multi_scale)) == pytest.approx(0, abs=1e-4)
        assert float(photometric(a, b, everywhere, multi_scale)) > 0.5
    with pytest.raises(ValueError, match='sides of 176 px'):
        ms_ssim(a[..., :175], b[..., :175])


def test_what_is_masked_out_reaches_neither_value_nor_gradient():
    values = torch.tensor([[[[1.0, float('inf')], [3.0, float('nan')]]]], requires_grad=True)
    mask = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    mean = masked_mean(values, mask)
    mean.backward()
    assert float(mean.detach()) == 2.0
    assert values.grad.tolist() == [[[[0.5, 0.0], [0.5, 0.0]]]]
    assert float(masked_mean(values.detach(), torch.zeros_like(mask))) == 0.0


def test_pixels_that_are_no_numbers_are_read_and_their_gradient_says_so():
    source = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    depth = torch.ones(1, 1, 6, 8, requires_grad=True)
    T = motions(torch.zeros(1, 3), torch.tensor([[float('nan'), 0.0, 0.0]]))
    camera = torch.tensor([[0.8, 0.8, 0.5, 0.5]])
    there = project(depth, T, camera, camera)
    assert not there.inside.any()
    masked_mean(sample(source, there.pixels), there.inside.float()).backward()
    assert torch.isnan(depth.grad).all()


def test_a_flow_that_is_no_number_is_read_too():
    source = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor(float('nan'), requires_grad=True)
    (registered(source, scale * torch.ones(1, 2, 6, 8)) * 0).sum().backward()
    assert torch.isnan(scale.grad)


def test_a_plane_is_as_smooth_at_any_scale_and_an_edge_may_bend_it():
    ramp = torch.linspace(1, 2, 40).expand(1, 1, 30, 40)
    flat, edge = torch.full((1, 3, 30, 40), 0.5), torch.zeros(1, 3, 30, 40)
    edge[..., ::2] = 1.0
    assert float(smoothness(3 * ramp, flat)) == pytest.approx(float(smoothness(ramp, flat)))
    assert float(smoothness(ramp, edge)) == pytest.approx(
        float(smoothness(ramp, flat)) / np.e, rel=1e-4
    )


def test_depths_of_one_scale_are_consistent_and_of_two_are_not(pair):
    (source, a), (target, b) = pair
    projection = project(known_depth(target), T_source_target(pair), camera_of(b), camera_of(a))
    mask = torch.isfinite(known_depth(target)).float()
    there = torch.nan_to_num(known_depth(source), nan=1.0)
    one = float(depth_inconsistency(projection, there, mask))
    two = float(depth_inconsistency(projection, 2 * there, mask))
    assert one < 0.02
    assert two == pytest.approx(1 / 3, abs=0.02)


def test_a_steady_zoom_is_smooth_and_a_jump_is_not():
    assert float(zoom_roughness(0.01 * torch.arange(20.0))) == pytest.approx(0, abs=1e-12)
    jump = torch.cat([torch.zeros(10), torch.full((10,), 0.1)])
    assert float(zoom_roughness(jump)) == pytest.approx(2 * 0.1**2 / 18)


def test_supervision_knows_scale_only_when_asked_and_passes_over_the_unknown():
    truth = torch.rand(2, 1, 8, 9, generator=torch.Generator().manual_seed(0)) + 1
    truth[:, :, 2] = float('nan')
    depth = torch.nan_to_num(2 * truth, nan=99.0).requires_grad_()
    assert float(supervised(depth, truth)) == pytest.approx(0, abs=1e-6)
    loss = supervised(depth, truth, scale_free=False)
    assert float(loss) == pytest.approx(np.log(2), rel=1e-5)
    loss.backward()
    assert torch.isfinite(depth.grad).all()
    assert (depth.grad[:, :, 2] == 0).all()


def test_a_teacher_is_followed_up_to_shift_and_scale():
    said = torch.rand(2, 1, 8, 9, generator=torch.Generator().manual_seed(0))
    assert float(distilled(said, 5 * said + 3)) == pytest.approx(0, abs=1e-5)
    assert float(distilled(said, -said)) > 0.5
