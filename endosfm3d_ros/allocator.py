# SPDX-License-Identifier: Apache-2.0
"""Make the C library keep freed memory: new pages for every picture cost more than copying it."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of malloc.h, see mallopt(3)
_LARGEST_KEPT = 32 * 1024 * 1024  # glibc takes no more than this for M_MMAP_THRESHOLD
_KEPT_AT_MOST = 512 * 1024 * 1024
SPARE = 4  # pictures: two more than in the first minutes were in flight at most in 54 000


def keep_freed_pictures() -> bool:
    """
    Let this process reuse freed blocks of up to 32 MiB instead of returning them to the kernel.

    By default glibc gives a freed picture back and takes new pages for the next one, three times
    per received message: receiving a 1920x1080 rgb8 image costs 14 to 16 ms of CPU, with this 4 to
    5 ms (docs/performance.md). Threads share one arena, or each keeps free what another lacks: on
    busy cores the node took 29 MB more in two minutes, with one arena 20 in six and then no more.
    Call it first in `main`.

    :return: False where the C library is not glibc; nothing has changed then.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    return bool(
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        and mallopt(_M_TRIM_THRESHOLD, _KEPT_AT_MOST)
        and mallopt(_M_ARENA_MAX, 1)
    )


def reserve(size: int, count: int = SPARE) -> None:
    """
    Take blocks and free them: what `keep_freed_pictures` keeps is then there before it is needed.

    Otherwise a rare moment with one more picture in flight than ever before takes new pages, one
    fault each, and the process grows by a picture after a quarter of an hour.

    :param size: of a block [bytes]; never more than 32 MiB are taken in all.
    """
    some = min(count, _LARGEST_KEPT // size)
    _ = [b'\1' * size for _ in range(some)]  # written to, or they would be no pages yet


def give_back_freed() -> None:
    """Return what is free now to the kernel: for once, when large things were just let go."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)
