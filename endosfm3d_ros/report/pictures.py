# SPDX-License-Identifier: Apache-2.0
"""Pictures and clouds of a run as text that a page can hold."""

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from endosfm3d_ros.report.charts import Axis
from endosfm3d_ros.report.run import Moment

WIDEST = 400
MOST_POINTS = 36_000
COLOURS = 96
TURBO = cv2.applyColorMap(
    np.linspace(232, 14, COLOURS).round().astype(np.uint8)[:, None], cv2.COLORMAP_TURBO
).reshape(COLOURS, 3)[:, ::-1]
"""(96, 3) uint8 RGB, nearest first: near is warm, far is cool; the darkest ends are left out."""
CONFIDENCE = np.stack(
    [
        np.interp(np.linspace(0, 1, COLOURS), [0, 0.5, 1], stops).round().astype(np.uint8)
        for stops in ([30, 70, 233], [33, 124, 244], [36, 128, 236])
    ],
    axis=1,
)
"""(96, 3) uint8 RGB, 0 first: dark to light."""
NOTHING = np.array([[21, 24, 27], [33, 37, 41]], np.uint8)
"""Ground and hatching of a pixel that is not known."""


@dataclass(frozen=True)
class DepthRange:
    """
    What the ends of the colour bar stand for.

    :param near: first colour [mm].
    :param far: last colour [mm].
    """

    near: float
    far: float

    def position(self, depth: np.ndarray | float) -> np.ndarray:
        """Where depths [mm] lie on the bar, 0 to 1, logarithmic: equal steps are equal ratios."""
        return np.clip(np.log(np.asarray(depth) / self.near) / np.log(self.far / self.near), 0, 1)

    def ticks(self) -> list[float]:
        """Round depths within the range [mm]."""
        decades = [10.0**power for power in range(-4, 7)]
        for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            ticks = [
                base * digit
                for base in decades
                for digit in digits
                if self.near <= base * digit <= self.far
            ]
            if 2 <= len(ticks) <= 7:
                return ticks
        return Axis(self.near, self.far).ticks()


def depth_range(moments: list[Moment]) -> DepthRange | None:
    """The range that holds 98 % of all depths shown; None where nothing is known."""
    known = [moment.depth[np.isfinite(moment.depth)] for moment in moments]
    depths = np.concatenate(known) if known else np.empty(0)
    if not depths.size:
        return None
    near, far = np.percentile(depths, [1, 99])
    return DepthRange(float(near) * 0.98, float(max(far, near * 1.05)) * 1.02)


def shown_size(moment: Moment) -> tuple[int, int]:
    """Height and width of a moment's pictures on the page, as tall for its width as the input."""
    height, width = moment.image.shape[:2]
    camera, input_camera = moment.row.camera, moment.row.input_camera
    height *= (camera.fx / input_camera.fx) / (camera.fy / input_camera.fy)
    shrink = min(1.0, WIDEST / width)
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def photograph(image: np.ndarray, size: tuple[int, int]) -> str:
    """A picture (h, w, 3) uint8 RGB as a JPEG address; size: height and width shown."""
    height, width = size
    shown = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return _address('jpeg', shown, [cv2.IMWRITE_JPEG_QUALITY, 86])


def depth_picture(depth: np.ndarray, span: DepthRange | None, size: tuple[int, int]) -> str:
    """Depth (h, w) [mm] as a PNG address; what is not known is hatched."""
    known = np.isfinite(depth)
    position = span.position(np.where(known, depth, span.near)) if span else np.zeros(depth.shape)
    return _coloured(position, known, TURBO, size)


def confidence_picture(confidence: np.ndarray, depth: np.ndarray, size: tuple[int, int]) -> str:
    """Confidence (h, w) as a PNG address; hatched where there is no depth to be confident of."""
    position = np.clip(np.nan_to_num(confidence), 0, 1)
    return _coloured(position, np.isfinite(depth), CONFIDENCE, size)


def cloud(moment: Moment) -> dict[str, Any]:
    """
    The points of a moment on a coarser grid of its own pixels.

    :return: unit of the depth, width, height, fx, fy, cx, cy of the grid [px], step [mm], depth
        (uint16 little endian, multiples of step, 0 = unknown) and colour (RGB bytes), both row by
        row in base64.
    """
    height, width = moment.depth.shape
    stride = int(np.ceil(np.sqrt(height * width / MOST_POINTS)))
    rows, columns = height // stride or 1, width // stride or 1
    middle = min(stride // 2, height - 1, width - 1)
    depth = moment.depth[middle::stride, middle::stride][:rows, :columns]
    colour = (
        cv2.resize(moment.image, (width, height))
        if moment.image.shape[:2] != depth.shape
        else moment.image
    )
    colour = cv2.blur(colour, (stride, stride))[middle::stride, middle::stride][:rows, :columns]
    known = np.isfinite(depth)
    step = float(depth[known].max()) / 65_000 if known.any() else 1.0
    stored = np.where(known, np.maximum(np.nan_to_num(depth) / step, 1), 0).round().astype('<u2')
    camera = moment.row.camera
    return {
        'unit': moment.row.unit,
        'width': depth.shape[1],
        'height': depth.shape[0],
        'fx': round(camera.fx / stride, 4),
        'fy': round(camera.fy / stride, 4),
        'cx': round((camera.cx - middle) / stride, 4),
        'cy': round((camera.cy - middle) / stride, 4),
        'step': step,
        'depth': b64encode(stored.tobytes()).decode(),
        'colour': b64encode(np.ascontiguousarray(colour).tobytes()).decode(),
    }


def _coloured(
    position: np.ndarray, known: np.ndarray, colours: np.ndarray, size: tuple[int, int]
) -> str:
    """Positions 0 to 1 as colours; hatched at 45 degrees where nothing is known."""
    height, width = size
    position = cv2.resize(
        position.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST
    )
    known = (
        cv2.resize(known.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    )
    v, u = np.indices((height, width))
    hatched = NOTHING[((u + v) % 8 < 1).astype(int)]
    places = (position * (len(colours) - 1)).round().astype(int)
    return _address(
        'png',
        np.where(known[..., None], colours[places], hatched),
        [cv2.IMWRITE_PNG_COMPRESSION, 9],
    )


def _address(kind: str, image: np.ndarray, options: list[int]) -> str:
    """A picture (h, w, 3) uint8 RGB as a data address."""
    done, stored = cv2.imencode(f'.{kind}', np.ascontiguousarray(image[..., ::-1]), options)
    if not done:
        raise ValueError(f'OpenCV could not write a {image.shape} picture as {kind}')
    return f'data:image/{kind};base64,{b64encode(stored.tobytes()).decode()}'
