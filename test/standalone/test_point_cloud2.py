# SPDX-License-Identifier: Apache-2.0
"""True of the stand-in and of the real sensor_msgs_py alike."""

import array

import numpy as np
import pytest
from sensor_msgs.msg import PointCloud2, PointField
from sensor_msgs_py import point_cloud2
from std_msgs.msg import Header

XYZ = [
    PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1)
    for i, n in enumerate('xyz')
]
RGB = PointField(name='rgb', offset=16, datatype=PointField.UINT32, count=1)


def points(*shape):
    return np.arange(np.prod(shape) * 3, dtype=np.float32).reshape(*shape, 3)


def test_fields_become_columns_at_their_offsets():
    dtype = point_cloud2.dtype_from_fields([*XYZ, RGB], point_step=32)
    assert dtype.names == ('x', 'y', 'z', 'rgb')
    assert dtype.itemsize == 32
    assert dtype.fields['rgb'] == (np.dtype(np.uint32), 16)


def test_a_field_with_a_count_becomes_that_many_columns_and_a_nameless_one_a_numbered():
    fields = [
        PointField(name='n', offset=0, datatype=PointField.FLOAT32, count=3),
        PointField(name='', offset=12, datatype=PointField.UINT8, count=1),
    ]
    assert point_cloud2.dtype_from_fields(fields).names == ('n_0', 'n_1', 'n_2', 'unnamed_field_1')


@pytest.mark.parametrize('count', [0, 1, 7])
def test_a_flat_cloud_comes_back(count):
    cloud = point_cloud2.create_cloud_xyz32(Header(frame_id='endoscope'), points(count))
    assert (cloud.width, cloud.height, cloud.point_step) == (count, 1, 12)
    assert cloud.header.frame_id == 'endoscope'
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), points(count))


def test_an_organised_cloud_takes_its_width_from_the_first_axis():
    """The upstream surprise on which nobody should fall: (H, W) comes out transposed."""
    cloud = point_cloud2.create_cloud_xyz32(Header(), points(3, 5))
    assert (cloud.width, cloud.height, cloud.row_step) == (3, 5, 36)
    back = point_cloud2.read_points_numpy(cloud, reshape_organized_cloud=True)
    np.testing.assert_array_equal(back, points(3, 5))


def test_a_message_filled_row_by_row_is_read_as_a_picture():
    """How our node writes clouds: dtype_from_fields, (H, W) in memory, width and height set."""
    height, width = 3, 5
    dtype = point_cloud2.dtype_from_fields([*XYZ, RGB], point_step=20)
    table = np.zeros((height, width), dtype)
    table['x'], table['y'] = np.meshgrid(np.arange(width), np.arange(height))
    table['rgb'] = 0x112233
    cloud = PointCloud2(
        height=height, width=width, fields=[*XYZ, RGB], point_step=20, row_step=100
    )
    cloud.data = array.array('B', table.tobytes())
    read = point_cloud2.read_points(cloud).reshape(height, width)
    for name in ('x', 'y', 'rgb'):
        np.testing.assert_array_equal(read[name], table[name])
    assert (read[1, 4]['x'], read[1, 4]['y']) == (4, 1)


def test_nans_are_skipped_only_where_the_cloud_says_that_it_has_some():
    values = points(4)
    values[1, 2] = np.nan
    cloud = point_cloud2.create_cloud_xyz32(Header(), values)
    assert len(point_cloud2.read_points(cloud, skip_nans=True)) == 3
    assert len(point_cloud2.read_points(cloud, ['x'], skip_nans=True)) == 4
    cloud.is_dense = True
    assert len(point_cloud2.read_points(cloud, skip_nans=True)) == 4


def test_chosen_points_and_fields_in_the_order_asked_for():
    cloud = point_cloud2.create_cloud_xyz32(Header(), points(4))
    read = point_cloud2.read_points(cloud, ['z', 'x'], uvs=[3, 0])
    assert read.dtype.names == ('z', 'x')
    assert read['z'].tolist() == [11.0, 2.0]


def test_foreign_byte_order_is_read_through():
    cloud = point_cloud2.create_cloud_xyz32(Header(), points(4).byteswap())
    cloud.is_bigendian = not cloud.is_bigendian
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), points(4))


def test_points_may_come_as_tuples_or_as_a_structured_array():
    dtype = point_cloud2.dtype_from_fields([*XYZ, RGB])
    rows = [(1.0, 2.0, 3.0, 0xFF0000), (4.0, 5.0, 6.0, 0x00FF00)]
    from_tuples = point_cloud2.create_cloud(Header(), [*XYZ, RGB], rows)
    from_table = point_cloud2.create_cloud(Header(), [*XYZ, RGB], np.array(rows, dtype))
    for cloud in (from_tuples, from_table):
        assert point_cloud2.read_points(cloud)['rgb'].tolist() == [0xFF0000, 0x00FF00]
        assert point_cloud2.read_points(cloud)['z'].tolist() == [3.0, 6.0]


@pytest.mark.parametrize(
    'mistake',
    [
        lambda: point_cloud2.dtype_from_fields([XYZ[0], XYZ[0]]),
        lambda: point_cloud2.dtype_from_fields([PointField(name='a', datatype=7, count=0)]),
        lambda: point_cloud2.create_cloud(Header(), [*XYZ, RGB], np.zeros((2, 4), np.float32)),
        lambda: point_cloud2.create_cloud_xyz32(Header(), points(2, 3, 4)),
        lambda: point_cloud2.read_points(
            point_cloud2.create_cloud_xyz32(Header(), points(2)), ['intensity']
        ),
    ],
)
def test_a_mistake_is_refused(mistake):
    with pytest.raises((ValueError, AssertionError)):
        mistake()
