# SPDX-License-Identifier: Apache-2.0
"""Keeps every test on this machine, in a ROS domain of its own."""

import fcntl
import os
import tempfile
from pathlib import Path

FIRST_DOMAIN, LAST_DOMAIN = 60, 99  # above 101 Fast DDS's ports meet the system's own


def _claim_a_domain() -> int:
    """:return: a domain that no other run of our tests on this machine holds."""
    for domain in range(FIRST_DOMAIN, LAST_DOMAIN + 1):
        path = Path(tempfile.gettempdir(), f'endosfm3d-test-domain-{domain}.lock')
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            # Never closed: the kernel lets go of it when this process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        return domain
    raise RuntimeError(f'all ROS domains {FIRST_DOMAIN} to {LAST_DOMAIN} are in use by tests')


# Before any test module imports rclpy, and whatever the shell says: a robot may live there.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ['ROS_DOMAIN_ID'] = str(_claim_a_domain())
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')  # as the node and the command line do
# torch's threads spin while they wait for each other: on busy cores, tests of networks took five
# times as much of them
os.environ.setdefault('OMP_NUM_THREADS', '1')
