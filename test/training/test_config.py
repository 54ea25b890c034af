# SPDX-License-Identifier: Apache-2.0
"""Settings: every shipped file is valid, and every mistake is one clear line before any work."""

from pathlib import Path

import pytest

pytest.importorskip('torch', reason='torch trains: make setup-training')

from training.config import config_from, read_config

FILES = sorted((Path(__file__).parents[2] / 'config' / 'training').glob('*.yaml'))
LEAST = {'data': {'train': [{'reader': 'stream', 'path': 'clip.mp4'}]}}


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid(path):
    config = read_config(path)
    assert config.data.train
    assert config.data.validation


def test_what_is_not_said_has_its_default_and_1e_4_is_a_number():
    config = config_from({**LEAST, 'loop': {'rate': '1e-4', 'depth_rate': 1}}, 'x.yaml')
    assert config.loop.rate == 1e-4
    assert config.loop.depth_rate == 1.0
    assert config.data.offsets == [-1, 1]
    assert config_from(config.as_dict(), 'again') == config


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'lop': {}}, r"x\.yaml: unknown key 'lop'; known keys: .*loop"),
        ({'loop': {'epoch': 3}}, r"loop: unknown key 'epoch'; known keys: .*epochs"),
        ({'loop': {'epochs': 'many'}}, r"loop: epochs: need int, found 'many'"),
        ({'loop': {'epochs': 0}}, 'loop: epochs: need 1 or more'),
        ({'loop': {'rate': 'fast'}}, r"loop: rate: need a number, found 'fast'"),
        ({'networks': {'depth': 'huge'}}, r"'huge' is none of compact, paper"),
        ({'networks': {'depth': 'paper'}, 'data': {**LEAST['data'], 'size': [256, 320]}},
         'no multiple of 14'),
        *(({'networks': one, 'data': {**LEAST['data'], 'size': [32, 40]}}, 'of 33 and more')
          for one in ({'motion': 'paper'}, {'appearance': True})),
        ({'objective': {'similarity': 'ms-ssim'}, 'data': {**LEAST['data'], 'size': [96, 128]}},
         'sides of 176 px'),
        ({'objective': {'similarity': 'ms-ssim'}, 'data': {**LEAST['data'], 'size': [168, 210]}},
         'sides of 176 px'),
        ({'objective': {'distilled': 1.0}}, 'needs networks: teacher'),
        ({'data': {**LEAST['data'], 'strides': []}}, 'strides: need at least one'),
        ({'data': {**LEAST['data'], 'strides': [1, 0]}}, 'all of them 1 or more'),
        *(({'data': {'train': [{'reader': 'worlds', 'seeds': seeds}]}}, r'\[0, 4\] are four')
          for seeds in ([], [0], [0, 1, 2], [0, 1, 2, 3], [4, 4])),
        ({'loop': {'validate_most': 0}}, 'validate_most: need 1 or more'),
        *(({'loop': {name: -1}}, f'loop: {name}: need 0 or more')  # not "never", as elsewhere
          for name in ('patience', 'drop_after', 'warm_steps', 'late_steps')),
        ({'data': {**LEAST['data'], 'workers': -1}}, 'data: workers: need 0 or more'),
        ({'seed': -1}, 'seed: need 0 or more'),
        *(({'loop': {'rate': rate}}, 'loop: rate: need a number of 0 and more')
          for rate in (-1e-4, '-1e-4', float('nan'), 'inf')),
        ({'loop': {'rate': True}}, 'loop: rate: need a number, found True'),
        *(({'augmentation': {name: 50}}, f'augmentation: {name}: need a share, 0 to 1')
          for name in ('mirror', 'crop', 'smallest')),
        ({'augmentation': {'smallest': 0}}, 'augmentation: smallest: need more than 0'),
        ({'loop': {'clip': 0.0}}, 'loop: clip: need more than 0'),
        ({'networks': {'focal': 0}}, 'networks: focal: need more than 0'),
        ({'objective': {'pyramid': 0}}, 'pyramid: 0 levels; need 1 or more'),
        ({'objective': {'pyramid': 9}}, 'coarsest has sides of 3 px and more'),
        ({'data': {}}, "data: the key 'train' is missing"),
        ({'data': {'train': []}}, 'nothing to train on'),
        ({'data': {'train': [{'reader': 'kitti'}]}}, "'kitti' is none of c3vd"),
        ({'data': {'train': {'reader': 'scared'}}}, 'data: train: need a list'),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_says_what_was_needed(changes, said):
    with pytest.raises(ValueError, match=said) as found:
        config_from({**LEAST, **changes}, 'x.yaml')
    assert '\n' not in str(found.value)


def test_no_precision_may_be_said_plainly(tmp_path):
    (tmp_path / 'x.yaml').write_text('data: {train: [{reader: worlds}]}\nloop: {precision: no}\n')
    assert read_config(tmp_path / 'x.yaml').loop.precision == 'no'


def test_no_file_and_no_yaml_are_named(tmp_path):
    with pytest.raises(ValueError, match='no such file'):
        read_config(tmp_path / 'none.yaml')
    (tmp_path / 'bad.yaml').write_text('data: [')
    with pytest.raises(ValueError, match=r'bad\.yaml is no YAML'):
        read_config(tmp_path / 'bad.yaml')
