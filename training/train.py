# SPDX-License-Identifier: Apache-2.0
"""`python -m training train CONFIG RUN`: train, or go on where RUN stands."""

import argparse
import json
import sys
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState

from training.checkpoints import TrainingError, kept, latest, needed_facts
from training.config import Config, read_config
from training.data.open import open_data
from training.loop import Loop, State
from training.processes import asked_for, on_cpu, start

PATIENCE = timedelta(days=1)  # the first process may read terabytes while the others wait
GOES_ON = ('loop', 'data')  # parts that may change when a run goes on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `train`."""
    parser.add_argument('config', type=Path, help='a file like those in config/training/')
    parser.add_argument(
        'run', type=Path, nargs='?',
        help='folder of this run (default: runs/NAME of the file); one that has begun goes on',
    )  # fmt: skip
    parser.add_argument('--seed', type=int, help="instead of the file's")


def train(config: Config, folder: Path) -> State:
    """
    Train to the end, or go on where the folder stands.

    :raises ValueError, OSError: it stopped; what was learnt is kept.
    """
    place = PartialState(cpu=on_cpu(), timeout=PATIENCE)

    def tell(line: str) -> None:
        if place.is_main_process:
            print(line, flush=True)

    try:
        _same_run(config, folder)
        with place.main_process_first():  # one process fills the cache, the others find it
            samples, held_out, scopes = open_data(config, tell)
        state = Loop(config, folder, samples, held_out, scopes, tell)()
    finally:
        place.destroy_process_group()
    best = f'best {config.loop.metric} {state.best:.4g}'
    tell(f'{folder}: {state.step} steps; {best if held_out else "never validated: no best"}')
    return state


def run(arguments: argparse.Namespace) -> int:
    """`train`: 0 well, 1 stopped with one line."""
    folder = arguments.run or Path('runs') / arguments.config.stem
    try:
        config = read_config(arguments.config)
        if arguments.seed is not None:
            config = Config(**{**vars(config), 'seed': arguments.seed})
        train(config, folder)
    except (ValueError, OSError) as error:
        print(f'training train: {" ".join(str(error).split())}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'{kept(folder)}; the same command goes on', file=sys.stderr)
        raise
    return 0


def _same_run(config: Config, folder: Path) -> None:
    """Refuse to go on with other networks or another objective than the run began with."""
    found = latest(folder)
    if found is None:
        return
    before = needed_facts(found)['config']
    now = json.loads(json.dumps(config.as_dict()))
    changed = [name for name in now if name not in GOES_ON and now[name] != before.get(name)]
    if changed:
        raise TrainingError(
            f'{folder} was begun with another {changed[0]!r}; take a new folder, or the old file'
        )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.parse_args()  # what is typed wrong is said once
    if (count := asked_for()) > 1:
        return start(count, ['train', *sys.argv[1:]])
    return run(parser.parse_args())


if __name__ == '__main__':
    sys.exit(main())
