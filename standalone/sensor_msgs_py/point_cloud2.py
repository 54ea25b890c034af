# SPDX-License-Identifier: Apache-2.0
"""
Point cloud messages to numpy arrays and back.

Stand-in for sensor_msgs_py on machines without a ROS 2 distribution: what we call of it, no more.
"""

import array
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured, unstructured_to_structured
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

DUMMY_FIELD_PREFIX = 'unnamed_field'

_DTYPES: dict[int, np.dtype] = {
    PointField.INT8: np.dtype(np.int8),
    PointField.UINT8: np.dtype(np.uint8),
    PointField.INT16: np.dtype(np.int16),
    PointField.UINT16: np.dtype(np.uint16),
    PointField.INT32: np.dtype(np.int32),
    PointField.UINT32: np.dtype(np.uint32),
    PointField.FLOAT32: np.dtype(np.float32),
    PointField.FLOAT64: np.dtype(np.float64),
}


def dtype_from_fields(fields: Iterable[PointField], point_step: int | None = None) -> np.dtype:
    """
    Describe one point as numpy sees it.

    :param fields: a field without a name gets ``unnamed_field_<index>``; one with count n becomes
        n fields ``<name>_0`` … ``<name>_<n-1>``.
    :param point_step: bytes per point; None for as many as the fields need.
    :raises ValueError: a count of zero, a name that comes twice, an unknown datatype.
    """
    columns: dict[str, tuple[str, int]] = {}
    for index, field in enumerate(fields):
        name = field.name or f'{DUMMY_FIELD_PREFIX}_{index}'
        if field.datatype not in _DTYPES or field.count == 0:
            raise ValueError(f'field {name!r}: datatype {field.datatype}, count {field.count}')
        kind = _DTYPES[field.datatype]
        for part in range(field.count):
            column = name if field.count == 1 else f'{name}_{part}'
            if column in columns:
                raise ValueError(f'field {column!r} comes twice')
            columns[column] = (kind.str, field.offset + part * kind.itemsize)
    layout: dict[str, Any] = {
        'names': list(columns),
        'formats': [format_ for format_, _ in columns.values()],
        'offsets': [offset for _, offset in columns.values()],
    }
    if point_step is not None:
        layout['itemsize'] = point_step
    dtype: np.dtype = np.dtype(layout)  # type: ignore[call-overload]
    return dtype


def read_points(
    cloud: PointCloud2,
    field_names: Sequence[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable[int] | None = None,
    reshape_organized_cloud: bool = False,
) -> np.ndarray:
    """
    Read a cloud; a view of the message's memory where nothing is left out or swapped.

    :param field_names: fields to read; None for all.
    :param skip_nans: leave out points with a NaN, unless the cloud calls itself dense.
    :param uvs: indices of the points to return, counted after those left out.
    :param reshape_organized_cloud: shape (width, height) for a cloud of more than one row. Mind:
        upstream's order, in which the second axis runs fastest; it fits only what upstream's
        create_cloud wrote. For an image-like cloud reshape the flat result to (height, width).
    :return: structured array.
    :raises ValueError: a field that the cloud doesn't have.
    """
    dtype = dtype_from_fields(cloud.fields, point_step=cloud.point_step)
    points = np.ndarray((cloud.width * cloud.height,), dtype, buffer=cloud.data)
    if field_names is not None:
        if missing := [name for name in field_names if name not in (dtype.names or ())]:
            raise ValueError(
                f'no field {missing[0]!r}; the cloud has {", ".join(dtype.names or ())}'
            )
        points = points[list(field_names)]
    if cloud.is_bigendian != (sys.byteorder == 'big'):
        points = points.byteswap()
    if skip_nans and not cloud.is_dense:
        keep = np.ones(len(points), bool)
        for name in points.dtype.names or ():
            keep &= ~np.isnan(points[name])
        points = points[keep]
    if uvs is not None:
        points = points[uvs if isinstance(uvs, np.ndarray) else np.fromiter(uvs, int)]
    if reshape_organized_cloud and cloud.height > 1:
        points = points.reshape(cloud.width, cloud.height)
    return points


def read_points_numpy(
    cloud: PointCloud2,
    field_names: Sequence[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable[int] | None = None,
    reshape_organized_cloud: bool = False,
) -> np.ndarray:
    """
    Read fields of one type as a plain array with the fields along the last axis.

    Parameters are those of :func:`read_points`.

    :raises ValueError: the fields differ in type.
    """
    types = {f.datatype for f in cloud.fields if field_names is None or f.name in field_names}
    if len(types) > 1:
        raise ValueError('the fields differ in datatype; read them with read_points()')
    points = read_points(cloud, field_names, skip_nans, uvs, reshape_organized_cloud)
    return structured_to_unstructured(points)


def create_cloud(
    header: Header,
    fields: Sequence[PointField],
    points: np.ndarray | Iterable[Iterable[float]],
    point_step: int | None = None,
) -> PointCloud2:
    """
    Make a message.

    :param points: structured array of the fields' dtype, or plain array with the fields along the
        last axis, or one iterable per point. Mind: of an organised (A, B) array A becomes the
        width and B the height, as upstream: a picture's (H, W) cloud comes out transposed.
    :param point_step: bytes per point; None for as many as the fields need.
    :raises ValueError: points and fields don't fit.
    """
    dtype = dtype_from_fields(fields, point_step)
    if not isinstance(points, np.ndarray):
        points = np.array([tuple(point) for point in points], dtype=dtype)
    elif points.dtype.names is None:
        if any(field.datatype != fields[0].datatype for field in fields):
            raise ValueError('the fields differ in datatype; pass a structured array')
        points = unstructured_to_structured(points, dtype=dtype)
    elif points.dtype != dtype:
        raise ValueError(f'the points have {points.dtype}, the fields say {dtype}')
    if points.ndim > 2:
        raise ValueError(f'points of shape {points.shape}: a cloud has one or two dimensions')
    width, height = (*points.shape, 1)[:2]
    data = array.array('B')
    data.frombytes(points.tobytes())
    cloud = PointCloud2(
        header=header,
        height=height,
        width=width,
        fields=fields,
        is_bigendian=sys.byteorder == 'big',
        point_step=dtype.itemsize,
        row_step=dtype.itemsize * width,
        is_dense=False,
    )
    # Set apart from the constructor, which would check every byte.
    cloud.data = data
    return cloud


def create_cloud_xyz32(
    header: Header, points: np.ndarray | Iterable[Iterable[float]]
) -> PointCloud2:
    """
    Make a message with the float32 fields x, y, z.

    :param points: (..., 3) array or iterables of three numbers; see :func:`create_cloud`.
    """
    fields = [
        PointField(name=name, offset=offset, datatype=PointField.FLOAT32, count=1)
        for name, offset in (('x', 0), ('y', 4), ('z', 8))
    ]
    return create_cloud(header, fields, points)
