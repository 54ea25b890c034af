# SPDX-License-Identifier: Apache-2.0
"""How many threads the libraries below take for themselves."""

import os


def one_thread_for_small_things() -> None:
    """
    One matrix product or one filter of a picture gets one thread; call before NumPy is imported.

    They are small: their threads would wait for each other, and for cores that other processes
    have (step of a 720p frame on two idle cores: 38.5 CPU-ms with OpenCV's threads, 36.4 without,
    and sooner done). A user's own choice in the environment stands.
    """
    for name in ('OPENBLAS_NUM_THREADS', 'OPENCV_FOR_THREADS_NUM'):
        os.environ.setdefault(name, '1')
