# SPDX-License-Identifier: Apache-2.0
"""Where compiled loops are kept, and when they are compiled anew."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from endosfm3d_ros.compiled import Compiler

CALLED = 'def twice(x):\n    return {} * x\n'
CALLS = """
from pathlib import Path
from endosfm3d_ros.compiled import Compiler
from called import twice
kernel = Compiler(
    [Path(__file__), Path(__file__).with_name('called.py')],
    fastmath={'contract', 'nsz', 'reassoc'},
)
print('kept' if kernel.keeps_something else 'new')
_twice = kernel(twice)
@kernel
def four_times(x):
    return _twice(_twice(x))
kernel.run(lambda: print(four_times(1.0)))
"""


def run(folder: Path, **env: str) -> list[str]:
    """What a program says that compiles a loop which calls one of another file."""
    (folder / 'calls.py').write_text(CALLS)
    command = [sys.executable, 'calls.py']
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        command,
        cwd=folder,
        env={'PYTHONPATH': root, 'PATH': '', **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_what_was_compiled_is_kept_until_something_that_it_calls_changes(tmp_path: Path) -> None:
    home = {'HOME': str(tmp_path / 'home'), 'PYTHONHASHSEED': 'random'}
    (tmp_path / 'called.py').write_text(CALLED.format(2.0))
    assert run(tmp_path, **home) == ['new', '4.0']
    assert [run(tmp_path, **home) for _ in range(3)] == [['kept', '4.0']] * 3
    (tmp_path / 'called.py').write_text(CALLED.format(3.0))
    assert run(tmp_path, **home) == ['new', '9.0']
    assert not (tmp_path / 'home').exists()


@pytest.mark.parametrize('kind', ['nbi', 'nbc'])
@pytest.mark.parametrize('length', [0, 30])
def test_a_cache_that_lost_its_end_is_compiled_anew(
    tmp_path: Path, kind: str, length: int
) -> None:
    home = {'HOME': str(tmp_path / 'home')}
    (tmp_path / 'called.py').write_text(CALLED.format(2.0))
    run(tmp_path, **home)
    broken = list((tmp_path / '__pycache__').rglob(f'*.{kind}'))
    assert broken
    for path in broken:
        path.write_bytes(path.read_bytes()[:length])
    assert run(tmp_path, **home) == ['kept', '4.0']
    assert run(tmp_path, **home) == ['kept', '4.0']
    assert all(path.stat().st_size > 30 for path in broken)


def test_an_error_of_what_runs_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / 'loop.py'
    path.write_text('')
    with pytest.raises(ZeroDivisionError):
        Compiler([path]).run(lambda: 1 / 0)


@pytest.fixture
def occupied(tmp_path: Path) -> Path:
    """A folder in which nothing can be kept: even root can make no folder where a file is."""
    (tmp_path / '__pycache__').write_text('')
    (tmp_path / 'called.py').write_text(CALLED.format(2.0))
    return tmp_path


def test_beside_sources_that_nobody_may_write_to_it_is_kept_for_the_user(occupied: Path) -> None:
    home = {'XDG_CACHE_HOME': str(occupied / 'mine')}
    assert run(occupied, **home) == ['new', '4.0']
    assert run(occupied, **home) == ['kept', '4.0']
    assert list((occupied / 'mine' / 'endosfm3d_ros').rglob('*.nbc'))


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same(occupied: Path) -> None:
    home = {'XDG_CACHE_HOME': str(occupied / 'called.py')}
    assert run(occupied, **home) == ['new', '4.0']
    assert run(occupied, **home) == ['new', '4.0']


def test_two_that_compile_do_not_share_a_folder(tmp_path: Path) -> None:
    """numba's own setting of the folder is left as it was."""
    from numba import config

    before = config.CACHE_DIR
    loops: list[Callable[[int], int]] = []
    for name in ('a', 'b'):
        folder = tmp_path / name
        folder.mkdir()
        path = folder / 'loop.py'
        path.write_text('def loop(x):\n    return x + 1\n')
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loops.append(Compiler([path])(module.loop))
    assert [loop(1) for loop in loops] == [2, 2]
    assert all(list((tmp_path / name).rglob('*.nbc')) for name in ('a', 'b'))
    assert before == config.CACHE_DIR
