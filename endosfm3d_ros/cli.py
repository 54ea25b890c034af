# SPDX-License-Identifier: Apache-2.0
"""The command line: `endosfm3d COMMAND --help` explains each."""

import argparse
import os
import signal
import sys
from importlib import import_module
from typing import NoReturn

from endosfm3d_ros.allocator import keep_freed_pictures
from endosfm3d_ros.threads import one_thread_for_small_things

one_thread_for_small_things()

# command -> (module with add_arguments(parser) and run(arguments), one line for the list)
COMMANDS = {
    'demo': (
        'endosfm3d_ros.demo',
        'play a clip through the live node over DDS, record it, and make a page to look at',
    ),
    'play': (
        'endosfm3d_ros.player',
        'publish a video, a folder of pictures or a bag as an image topic, at its own rate',
    ),
    'record': (
        'endosfm3d_ros.recorder',
        'record topics into a bag (.mcap), with loss and latency of each',
    ),
    'replay': (
        'endosfm3d_ros.replay',
        "do the node's work offline: every frame of an input, into a bag",
    ),
    'report': ('endosfm3d_ros.report.command', "make the page and the summary of a run's bag"),
    'evaluate': (
        'endosfm3d_ros.evaluation.command',
        "lay a run's bag beside its truth: errors of depth, path and camera, and of lazy answers",
    ),
    'bench': (
        'endosfm3d_ros.bench',
        'time every stage of a frame, and every engine, on this machine',
    ),
    'compile': (
        'endosfm3d_ros.engines.command',
        "compile a bundle for this machine's NVIDIA GPU, with TensorRT: once, minutes",
    ),
    'doctor': ('endosfm3d_ros.doctor', 'say what is missing on this machine, and what to run'),
    'parameters': ('endosfm3d_ros.parameters', "list the node's parameters"),
}


def main(arguments: list[str] | None = None) -> int:
    """
    Run one command.

    :param arguments: as typed; None takes the process's own.
    :return: the exit code: 0 well, 1 not, 2 typed wrong.
    """
    if arguments is None:  # a process of its own: `docker stop` ends it as Ctrl-C does
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        keep_freed_pictures()
    try:
        chosen = _parse(sys.argv[1:] if arguments is None else arguments)
        return int(chosen.run(chosen))
    except KeyboardInterrupt:
        if arguments is None:
            _leave(130)
        return 130
    except BrokenPipeError:
        return 141


def _leave(code: int) -> NoReturn:
    """End the process here: what a Ctrl-C left half made in the libraries is not torn down."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _parse(typed: list[str]) -> argparse.Namespace:
    """The words of one command; its module's `run` is among them."""
    parser = argparse.ArgumentParser(
        prog='endosfm3d',
        description='3-D from an endoscope video without calibration. Research software, not a '
        'medical device.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='The live node itself: ros2 launch endosfm3d_ros endosfm3d.launch.py, or '
        'endosfm3d_node',
    )
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    wanted = next((word for word in typed if word in COMMANDS), None)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + '.'
        )
        if name == wanted:  # only the command that runs is imported, so that each one starts fast
            command.set_defaults(run=import_module(module).run)
            import_module(module).add_arguments(command)
    return parser.parse_args(typed)


if __name__ == '__main__':
    sys.exit(main())
