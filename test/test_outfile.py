# SPDX-License-Identifier: Apache-2.0
"""What can not be read or written is told in one line, and before the work."""

from pathlib import Path
from types import ModuleType

import pytest

from endosfm3d_ros import bench, player
from endosfm3d_ros.cli import main
from endosfm3d_ros.outfile import check_outfile


@pytest.mark.parametrize(
    'words',
    [
        ['play', 'pattern:64x48@30', '--wait-for', '0', '--count', '1', '--facts'],
        ['record', 'RUN', '/nothing', '--facts'],
        ['bench', '--frames', '1', '--out'],
        ['evaluate', 'RUN', '--truth', 'RUN', '--json'],
    ],
    ids=lambda words: words[0],
)
def test_figures_into_a_missing_folder_are_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    words = [word.replace('RUN', str(tmp_path / 'run.mcap')) for word in words]
    assert main([*words, str(tmp_path / 'none' / 'figures.json')]) == 1
    said, error = capsys.readouterr()
    assert f'no folder {tmp_path / "none"}; make it' in error and error.count('\n') == 1
    assert not said and not list(tmp_path.iterdir())


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    check_outfile(None)
    check_outfile(tmp_path / 'figures.json')
    with pytest.raises(ValueError, match='cannot write there'):
        check_outfile(tmp_path)


@pytest.mark.parametrize(
    ('module', 'words'),
    [
        (player, ['play', 'pattern:64x48@30', '--wait-for', '0', '--count', '1', '--facts']),
        (bench, ['bench', '--frames', '1', '--out']),
    ],
    ids=['play', 'bench'],
)
def test_figures_that_can_not_be_written_in_the_end_are_one_line(
    module: ModuleType,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, 'check_outfile', lambda path: None)  # its folder went meanwhile
    for work in ('stages', 'engines'):  # of the bench, which takes its time
        monkeypatch.setattr(bench, work, lambda *_: {})
    assert main([*words, str(tmp_path / 'none' / 'figures.json')]) == 1
    error = capsys.readouterr().err
    assert 'figures.json: cannot write there (No such file' in error and error.count('\n') == 1


@pytest.mark.parametrize(
    'words',
    [
        ['replay', 'NAME.mp4', 'out.mcap'],
        ['replay', 'pattern:64x48@30', 'NAME.mcap'],
        ['play', 'NAME.mp4'],
        ['record', 'NAME.mcap', '/nothing'],
    ],
    ids=lambda words: '-'.join(words)[:20],
)
def test_what_the_file_system_refuses_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """A name that is too long stands for a folder that is closed: nothing is closed to root."""
    assert main([word.replace('NAME', str(tmp_path / ('x' * 300))) for word in words]) == 1
    error = capsys.readouterr().err
    assert 'name too long' in error and error.count('\n') == 1
