# SPDX-License-Identifier: Apache-2.0
"""
The self-supervised objective in pure functions: warp a picture by depth, motion and K; how alike
two pictures are; how smooth, how consistent, how near a truth a depth is.

Pictures are (B, 3, H, W) float in [0, 1]; depth and its inverse (B, 1, H, W) in the networks'
unit; cameras (B, 4) fx / W, fy / H, n_x, n_y, with n_x = (cx + 1/2) / W; `T_a_b` (B, 4, 4) maps
points of camera b into camera a. The centre of pixel u is the integer u.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

NEAREST = 1e-3  # points nearer than this to the source's camera are behind it [unit]
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli and Bovik 2003
MS_SSIM_WINDOW, MS_SSIM_SIGMA = 11, 1.5
LEAST_OF_MS_SSIM = MS_SSIM_WINDOW * 2 ** (len(MS_SSIM_WEIGHTS) - 1)  # the coarsest is a window


@dataclass(frozen=True)
class Projection:
    """
    Where the target's pixels lie in the source.

    :param pixels: (B, H, W, 2) u, v in the source [px].
    :param depth: (B, 1, H, W) of the same points in the source's camera [unit].
    :param inside: (B, 1, H, W) bool: in front of the source's camera and in its picture.
    """

    pixels: Tensor
    depth: Tensor
    inside: Tensor


def camera_matrices(camera: Tensor, height: int, width: int) -> Tensor:
    """K (B, 3, 3) [px] of cameras (B, 4) and a picture's size [px]."""
    fx, fy, n_x, n_y = camera.unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = [
        torch.stack([fx * width, zero, n_x * width - 0.5], -1),
        torch.stack([zero, fy * height, n_y * height - 0.5], -1),
        torch.stack([zero, zero, one], -1),
    ]
    return torch.stack(rows, -2)


def motions(axis_angle: Tensor, translation: Tensor) -> Tensor:
    """T = Trans(t) Rot(r), (B, 4, 4), of an axis-angle (B, 3) [rad] and a translation (B, 3)."""
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)
    T = torch.eye(4, dtype=axis_angle.dtype, device=axis_angle.device).repeat(len(x), 1, 1)
    T[:, :3, :3] = torch.linalg.matrix_exp(skew)  # Rodrigues' formula, smooth at zero
    T[:, :3, 3] = translation
    return T


def project(
    depth: Tensor, T_source_target: Tensor, camera_target: Tensor, camera_source: Tensor
) -> Projection:
    """
    Lift the target's pixels by its depth, move them into the source and project them there.

    :param depth: (B, 1, H, W) of the target [unit].
    """
    B, _, H, W = depth.shape
    K_target = camera_matrices(camera_target, H, W)
    K_source = camera_matrices(camera_source, H, W)
    v, u = torch.meshgrid(
        torch.arange(H, dtype=depth.dtype, device=depth.device),
        torch.arange(W, dtype=depth.dtype, device=depth.device),
        indexing='ij',
    )
    pixels = torch.stack([u, v, torch.ones_like(u)]).view(3, -1)  # (3, H W)
    points = torch.linalg.solve_triangular(K_target, pixels.expand(B, 3, -1), upper=True)
    points = points * depth.view(B, 1, -1)  # (B, 3, H W), in the target
    points = T_source_target[:, :3, :3] @ points + T_source_target[:, :3, 3:]  # in the source
    z = points[:, 2:]
    there = (K_source @ points)[:, :2] / z.clamp(min=NEAREST)
    u_source, v_source = there.view(B, 2, H, W).unbind(1)
    inside = (
        (z.view(B, H, W) > NEAREST)
        & (u_source >= 0)
        & (u_source <= W - 1)
        & (v_source >= 0)
        & (v_source <= H - 1)
    )
    return Projection(torch.stack([u_source, v_source], -1), z.view(B, 1, H, W), inside[:, None])


def sample(source: Tensor, pixels: Tensor) -> Tensor:
    """
    Read a picture (B, C, H, W) bilinearly at pixels (B, h, w, 2) u, v [px]; the border goes on.

    Of a pixel that is no number see `readable`.
    """
    H, W = source.shape[-2:]
    size = pixels.new_tensor([W, H])
    grid = (2 * pixels + 1) / size - 1  # a pixel's centre is at (u + 1/2) / W of the picture
    return F.grid_sample(source, readable(grid), 'bilinear', 'border', align_corners=False)


def readable(grid: Tensor) -> Tensor:
    """
    The same with 0 for what is no number, where torch's grid_sample on CPUs ends the process; its
    gradient is NaN there, masked out or not, so that training stops with a line.
    """
    finite = torch.isfinite(grid)
    if grid.requires_grad:
        grid.register_hook(lambda gradient: gradient.masked_fill(~finite, float('nan')))
    return torch.where(finite, grid, torch.zeros_like(grid))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) in windows of 3x3: (B, 3, H, W), 1 where alike."""
    a, b = (F.pad(x, (1, 1, 1, 1), mode='reflect') for x in (a, b))
    luminance, structure = _similarity(a, b, lambda x: F.avg_pool2d(x, 3, 1))
    return luminance * structure


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """
    Multi-scale structural similarity (Wang et al. 2003), five scales: (B,), 1 where alike.

    :raises ValueError: a side below LEAST_OF_MS_SSIM.
    """
    if min(a.shape[-2:]) < LEAST_OF_MS_SSIM:
        H, W = a.shape[-2:]
        raise ValueError(
            f'MS-SSIM of five scales needs sides of {LEAST_OF_MS_SSIM} px, found {H}x{W}; '
            'use objective.similarity: ssim'
        )
    x = torch.arange(MS_SSIM_WINDOW, dtype=a.dtype, device=a.device) - MS_SSIM_WINDOW // 2
    kernel = torch.exp(-0.5 * (x / MS_SSIM_SIGMA) ** 2)
    kernel = (kernel / kernel.sum()).repeat(3, 1, 1, 1)

    def blur(picture: Tensor) -> Tensor:
        across = F.conv2d(picture, kernel, groups=3)
        return F.conv2d(across, kernel.transpose(2, 3), groups=3)

    total = a.new_ones(len(a))
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        luminance, structure = _similarity(a, b, blur)
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        alike = (luminance * structure if last else structure).mean((1, 2, 3))
        total = total * alike.clamp(min=1e-4) ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total


def _similarity(a: Tensor, b: Tensor, blur: 'Blur') -> tuple[Tensor, Tensor]:
    """The luminance term, and contrast times structure."""
    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (mean_a**2 + mean_b**2 + SSIM_C1)
    return luminance, (2 * covariance + SSIM_C2) / (variance_a + variance_b + SSIM_C2)


def photometric(warped: Tensor, target: Tensor, mask: Tensor, multi_scale: bool = False) -> Tensor:
    """
    How unlike two pictures are: 0.9 (1 - similarity) + 0.1 L1, a number.

    :param mask: (B, 1, H, W) of 0 and 1: what counts. It acts on the SSIM map and on L1; a
        multi-scale similarity is one number per picture, so that it acts on L1 only.
    """
    l1 = masked_mean((warped - target).abs(), mask)
    if multi_scale:
        return 0.9 * (1 - ms_ssim(warped, target)).mean() + 0.1 * l1
    return 0.9 * masked_mean(1 - ssim(warped, target), mask) + 0.1 * l1


def halved(values: Tensor) -> Tensor:
    """Means of 2x2 pixels, (B, C, H, W) -> (B, C, H // 2, W // 2)."""
    return F.avg_pool2d(values, 2)


def halved_pixels(pixels: Tensor) -> Tensor:
    """
    Where 2x2 pixels together lie in a halved source: (B, H, W, 2) -> (B, H // 2, W // 2, 2).
    """
    means = F.avg_pool2d(pixels.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    return (means + 0.5) / 2 - 0.5  # the centre of the coarse pixel u is at 2 u + 1/2


def pyramid_photometric(
    source: Tensor, refined: Tensor, mask: Tensor, pixels: Tensor, levels: int
) -> Tensor:
    """
    Mean `photometric` over levels of halved pictures: coarse ones see motions of many pixels.

    :param source: (B, 3, H, W); refined: the target to compare with; mask: (B, 1, H, W).
    :param pixels: (B, H, W, 2) of `project`: where the target's pixels lie in the source.
    """
    total = photometric(sample(source, pixels), refined, mask)
    for _ in range(levels - 1):
        source, refined, pixels = halved(source), halved(refined), halved_pixels(pixels)
        mask = (halved(mask) > 0.99).to(mask.dtype)
        total = total + photometric(sample(source, pixels), refined, mask)
    return total / levels


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """
    Mean of (B, C, H, W) where mask (B, 1, H, W) is 1: of each picture, then of the pictures, so
    that it hangs on no other picture of the batch; 0 for one that is masked out as a whole.

    What is masked out may be anything, infinite too: it reaches neither value nor gradient.
    """
    kept = torch.where(mask > 0, values, torch.zeros_like(values))
    counts = mask.sum((1, 2, 3)) * values.shape[1]
    return (kept.sum((1, 2, 3)) / counts.clamp(min=1)).mean()


def smoothness(values: Tensor, picture: Tensor) -> Tensor:
    """
    Edge-aware first differences (Godard et al. 2017): of an inverse depth (B, 1, H, W) over its
    mean, or of a flow (B, 2, H, W) as it is; where the picture has an edge they cost less.
    """
    if values.shape[1] == 1:
        values = values / (values.mean((2, 3), keepdim=True) + 1e-7)
    across, down = values.diff(dim=3).abs(), values.diff(dim=2).abs()
    edge_across = picture.diff(dim=3).abs().mean(1, keepdim=True)
    edge_down = picture.diff(dim=2).abs().mean(1, keepdim=True)
    return (across * torch.exp(-edge_across)).mean() + (down * torch.exp(-edge_down)).mean()


def depth_inconsistency(projection: Projection, depth_source: Tensor, mask: Tensor) -> Tensor:
    """
    |a - b| / (a + b) of the target's depth moved into the source and the source's own (Bian et
    al. 2019): 0 where the frames share one scale.

    :param depth_source: (B, 1, H, W) of the source [unit].
    """
    there = sample(depth_source, projection.pixels)
    difference = (projection.depth - there).abs() / (projection.depth.abs() + there)
    return masked_mean(difference, mask * projection.inside)


def zoom_roughness(log_zoom: Tensor) -> Tensor:
    """
    Mean squared second difference of a clip's log zoom (N,): a lens turns smoothly.
    """
    return log_zoom.diff(n=2).square().mean() if len(log_zoom) > 2 else log_zoom.new_zeros(())


def supervised(depth: Tensor, truth: Tensor, scale_free: bool = True) -> Tensor:
    """
    Mean absolute error of log depth against a truth; scale-free: after each picture's own mean
    offset is taken off (Eigen et al. 2014).

    :param truth: (B, 1, H, W) in any unit; NaN where unknown.
    """
    known = torch.isfinite(truth) & (truth > 0)
    log_truth = torch.where(known, truth, torch.ones_like(truth)).log()
    error = torch.where(known, depth.log() - log_truth, torch.zeros_like(depth))
    count = known.sum((1, 2, 3), keepdim=True).clamp(min=1)
    if scale_free:
        offset = error.sum((1, 2, 3), keepdim=True) / count
        error = torch.where(known, error - offset, torch.zeros_like(error))
    return (error.abs().sum((1, 2, 3)) / count[:, 0, 0, 0]).mean()


def distilled(inverse_depth: Tensor, teacher: Tensor) -> Tensor:
    """
    Mean absolute difference of inverse depth from a teacher's, shift and scale taken off both
    (Ranftl et al. 2020), since relative teachers know neither.

    :param teacher: (B, 1, H, W) inverse depth of any scale and shift.
    """
    return (_normalised(inverse_depth) - _normalised(teacher)).abs().mean()


def _normalised(values: Tensor) -> Tensor:
    flat = values.flatten(1)
    centred = flat - flat.median(dim=1, keepdim=True).values
    return centred / centred.abs().mean(dim=1, keepdim=True).clamp(min=1e-7)


class Blur(Protocol):
    """What averages a picture over windows; a name for its type."""

    def __call__(self, picture: Tensor) -> Tensor: ...
