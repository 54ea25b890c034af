# SPDX-License-Identifier: Apache-2.0
"""
Several processes on CPUs: `accelerate launch --cpu --num_processes N` leaves starting them to MPI
and without it starts one; here the others are started too, by torch's own launcher.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise

import psutil
import torch

SET_BY_LAUNCHERS = ('RANK', 'OMPI_COMM_WORLD_RANK', 'PMI_RANK', 'MV2_COMM_WORLD_RANK')


def on_cpu() -> bool:
    """Whether training runs on CPUs: they were asked for, or there is nothing else."""
    asked = os.environ.get('ACCELERATE_USE_CPU', '').lower() == 'true'
    return asked or not torch.cuda.is_available()


def asked_for() -> int:
    """
    How many processes `accelerate launch --cpu` was asked for and did not start; 1 where it, MPI
    or torchrun did, or nobody asked.
    """
    if any(name in os.environ for name in SET_BY_LAUNCHERS):
        return 1
    if os.environ.get('ACCELERATE_USE_CPU', '').lower() != 'true':
        return 1
    parent = psutil.Process().parent()
    return number_in(parent.cmdline()) if parent else 1


def number_in(command: Sequence[str]) -> int:
    """N of --num_processes N in a command of accelerate; 1 where it says none."""
    words = [part for word in command for part in word.split('=', 1)]
    launched = any('accelerate' in word for word in words)
    for name, value in pairwise(words):
        if launched and name in ('--num_processes', '--num-processes') and value.isdigit():
            return int(value)
    return 1


def start(count: int, arguments: Sequence[str]) -> int:
    """
    Run `python -m training ARGUMENTS` in so many processes on this machine.

    :return: the exit status: 0 where all ended well.
    """
    command = [
        *(sys.executable, '-m', 'torch.distributed.run', '--standalone'),
        *('--nproc-per-node', str(count), '-m', 'training', *arguments),
    ]
    environment = {'OMP_NUM_THREADS': '1', **os.environ}
    return subprocess.run(command, env=environment, check=False).returncode
