# SPDX-License-Identifier: Apache-2.0
"""What OpenVINO leaves behind in a process: not its signal stack."""

import subprocess
import sys

PROGRAM = """
import os, signal, time
from endosfm3d_ros.bundle import open_bundle
from endosfm3d_ros.engines.choose import DepthGraphs
signal.signal(signal.SIGTERM, signal.default_int_handler)
DepthGraphs(open_bundle('photometric'), 'openvino')  # made, and dropped
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
except KeyboardInterrupt:
    print('ended as asked')
"""


def test_a_process_that_dropped_its_networks_still_ends_by_sigterm() -> None:
    done = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, 'ended as asked')
