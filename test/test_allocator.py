# SPDX-License-Identifier: Apache-2.0
"""What one thread freed, the next one takes."""

import platform
import subprocess
import sys

import pytest

PICTURE_MIB, HELD, THREADS = 3, 4, 6
PROGRAM = f"""
import threading
import psutil, numpy as np
from endosfm3d_ros.allocator import keep_freed_pictures

kept = keep_freed_pictures()
resident = lambda: psutil.Process().memory_info().rss / 2**20
turns = [threading.Event() for _ in range({THREADS} + 1)]
after = []

def hold_pictures(number):
    turns[number].wait()
    held = [np.ones({PICTURE_MIB} << 20, np.uint8) for _ in range({HELD})]
    del held
    after.append(resident())
    turns[number + 1].set()
    turns[-1].wait()  # nobody ends before all had their turn: an ended thread leaves its arena

threads = [threading.Thread(target=hold_pictures, args=(n,)) for n in range({THREADS})]
for thread in threads:
    thread.start()
turns[0].set()
for thread in threads:
    thread.join()
print(kept, after[-1] - after[0])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='mallopt is of glibc')
def test_threads_share_what_was_freed() -> None:
    done = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True)
    kept, grown_mib = done.stdout.split()
    assert kept == 'True'
    assert float(grown_mib) < PICTURE_MIB


RESERVED = f"""
import psutil
from endosfm3d_ros.allocator import keep_freed_pictures, reserve

keep_freed_pictures()
resident = lambda: psutil.Process().memory_info().rss / 2**20
reserve({PICTURE_MIB} << 20, {HELD})
before = resident()
held = [b'2' * ({PICTURE_MIB} << 20) for _ in range({HELD})]
print(resident() - before)
reserve(1 << 40)  # more than can be kept, or had: nothing happens
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='mallopt is of glibc')
def test_what_is_reserved_takes_no_new_pages_later() -> None:
    done = subprocess.run([sys.executable, '-c', RESERVED], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert float(done.stdout) < 0.5
