# SPDX-License-Identifier: Apache-2.0
"""Install the package, for colcon (ament_python) and for pip; the facts stand in package.xml."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

NAME = 'endosfm3d_ros'
ROOT = Path(__file__).parent
MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()
MAINTAINER = MANIFEST.find('maintainer')


def files(folder: str, pattern: str = '*') -> list[str]:
    """:return: files of a folder, relative to the package's root, as setuptools wants them."""
    found = (path for path in (ROOT / folder).glob(pattern) if path.is_file())
    return sorted(str(p.relative_to(ROOT)) for p in found if '__pycache__' not in p.parts)


setup(
    name=NAME,
    version=MANIFEST.findtext('version'),
    description=' '.join(MANIFEST.findtext('description').split()),
    maintainer=MAINTAINER.text,
    maintainer_email=MAINTAINER.get('email'),
    license='Apache-2.0',
    python_requires='>=3.11',
    extras_require={'test': ['pytest']},  # tells colcon which runner it is
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: [name.removeprefix(f'{NAME}/') for name in files(NAME, '**/*')]},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml', 'LICENSE']),
        (f'share/{NAME}/launch', files('launch', '*.py')),
        (f'share/{NAME}/config', files('config')),
        (f'share/{NAME}/config/security', files('config/security')),
    ],
    zip_safe=False,
    entry_points={
        'console_scripts': [
            f'endosfm3d = {NAME}.cli:main',
            f'endosfm3d_node = {NAME}.node:main',
        ],
    },
)
