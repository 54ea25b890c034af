# SPDX-License-Identifier: Apache-2.0
"""What a lookup can end in, under the names of upstream's tf2_py."""


class TransformException(Exception):
    """Any failure of a lookup."""


class ConnectivityException(TransformException):
    """Both frames are known, but no chain of transforms joins them."""


class LookupException(TransformException):
    """A frame has never been heard of, or the frames form a loop."""


class ExtrapolationException(TransformException):
    """The chain exists, but not at the time asked for."""


class InvalidArgumentException(TransformException):
    """The name of a frame is empty or begins with a slash."""


class TimeoutException(TransformException):
    """Upstream's waiting calls end in it; here for ``except`` clauses."""
