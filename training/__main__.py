# SPDX-License-Identifier: Apache-2.0
"""
Everything that runs offline: python -m training COMMAND ...

A command's module is imported only when it is asked for.
"""

import importlib
import sys

from endosfm3d_ros.allocator import keep_freed_pictures
from endosfm3d_ros.threads import one_thread_for_small_things

if {'geometry', 'judge-films', 'tune'} & {*sys.argv[1:2]}:  # as the node does
    one_thread_for_small_things()
    keep_freed_pictures()

from endosfm3d_ros.bundle import BundleError
from endosfm3d_ros.engines.engine import EngineError

INTERRUPTED = 130  # as a shell says it
COMMANDS = {
    'synthesize': ('training.synthesize', 'render training pairs'),
    'compact': ('training.compact', 'train the compact networks on them'),
    'average': ('training.average', 'average two compact runs of one beginning'),
    'judge': ('training.judge', 'judge bundles on held-out worlds and marked pictures'),
    'judge-films': ('training.judge_films', 'judge zoom, focal length and path on unseen films'),
    'path-trace': ('training.path_traced.command', 'films of another renderer, to be judged on'),
    'geometry': ('training.geometry.command', 'judge the window beside the best possible'),
    'tune': ('training.geometry.tune', 'try constants of the window on development films'),
    'train': ('training.train', 'train by a configuration, or go on with a run'),
    'ablate': ('training.ablate', 'what each switch is worth, the same seeds with one turned'),
    'prove': ('training.prove', 'self-supervision from nothing, three seeds: minutes each'),
    'evaluate': ('training.evaluate', 'score a checkpoint on its validation clips'),
    'export': ('training.export', 'make a bundle of a trained run'),
    'import-released': ('training.released', 'make a bundle of released EndoSfM3D weights'),
    'compile': ('training.compile', "build TensorRT engines of a bundle, on the robot's GPU"),
    'quantize': ('training.quantize', 'add int8 graphs to a bundle, for CPUs'),
}


def main() -> int:
    """:return: process exit status."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        asked = len(sys.argv) > 1 and sys.argv[1] not in ('-h', '--help')
        if asked:
            print(f'python -m training: no command {sys.argv[1]!r}', file=sys.stderr)
        print('usage: python -m training COMMAND [--help]\n')
        for name, (_, what) in COMMANDS.items():
            print(f'  {name:<16} {what}')
        return 2 if asked or len(sys.argv) < 2 else 0
    name = sys.argv[1]
    sys.argv[:2] = [f'python -m training {name}']
    try:
        return int(importlib.import_module(COMMANDS[name][0]).main())
    except (ValueError, OSError, BundleError, EngineError) as error:
        print(f'python -m training {name}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'python -m training {name}: interrupted', file=sys.stderr)
        return INTERRUPTED


if __name__ == '__main__':
    sys.exit(main())
