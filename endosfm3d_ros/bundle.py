# SPDX-License-Identifier: Apache-2.0
"""
A model bundle: a folder with a manifest (`model.json`), ONNX graphs and the hash of every file.

Nothing of a bundle is used before its manifest is understood and the file's hash is the
manifest's.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = 'model.json'
FORMAT = 1
SHIPPED = Path(__file__).parent / 'models'
_KEYS = {
    'format',
    'name',
    'version',
    'channels',
    'graphs',
    'depth_range',
    'unit_mm',
    'intrinsics',
    'card',
}
_OPTIONAL_KEYS = {'input'}
_GRAPH_KEYS = {'file', 'height', 'width', 'sha256'}
PRECISIONS = ('fp16', 'int8')  # what a graph may come in beside fp32
# How a motion graph's four numbers k give K [px], pixel centres at integers; by what cx, cy differ
# from W k2, H k3.
K_CENTRED = 'fx = W k0, fy = H k1, cx = W k2 - 1/2, cy = H k3 - 1/2'
K_PLAIN = 'fx = W k0, fy = H k1, cx = W k2, cy = H k3'
K_OFFSETS = {K_CENTRED: 0.5, K_PLAIN: 0.0}


class BundleError(RuntimeError):
    """A bundle that can't be used: what was found, what was needed, what mends it."""


@dataclass(frozen=True)
class Graph:
    """
    One ONNX graph of one static size.

    :param path: the file, for people.
    :param data: its bytes, which had the manifest's hash; runtimes get these, never the file
        again.
    :param height: rows of the uint8 (h, w, 3) picture it takes [px].
    :param width: columns [px].
    :param sha256: of the file, hexadecimal.
    :param others: the same graph in other precisions: file and sha256 by name; see `variant`.
    """

    path: Path
    data: bytes
    height: int
    width: int
    sha256: str
    others: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def variant(self, precision: str) -> 'Graph':
        """
        Read the same graph in another precision; its hash is checked now.

        :param precision: one of `others`.
        :raises BundleError: the bundle has none, or its file does not fit the manifest.
        """
        if precision not in self.others:
            raise BundleError(
                f'{self.path}: no {precision} variant in the manifest, found '
                f'{", ".join(sorted(self.others)) or "none"}; export the bundle again with it'
            )
        entry = self.others[precision]
        path = self.path.parent / entry['file']
        data = _checked_bytes(path, entry['sha256'])
        return Graph(path, data, self.height, self.width, entry['sha256'])


@dataclass(frozen=True)
class Bundle:
    """
    A checked bundle.

    :param folder: where it lies.
    :param name: the model's name.
    :param version: its version.
    :param depth: graphs picture -> depth, one per size.
    :param motion: graphs (previous, current) -> motion and intrinsics; may be empty.
    :param depth_range: nearest and farthest depth the graphs can say [mm].
    :param unit_mm: factor from the graphs' unit to nominal millimetres, for depth and translation.
    :param intrinsics: 'none', or how the motion graphs give K: a key of K_OFFSETS.
    :param card: training data, metrics, limits: for people.
    :param input: what the graphs themselves do to the picture: for people.
    """

    folder: Path
    name: str
    version: str
    depth: tuple[Graph, ...]
    motion: tuple[Graph, ...]
    depth_range: tuple[float, float]
    unit_mm: float
    intrinsics: str
    card: dict[str, Any]
    input: dict[str, str] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of every depth graph [px]."""
        return tuple((graph.height, graph.width) for graph in self.depth)


def shipped_bundles() -> list[str]:
    """Names of the bundles that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f'*/{MANIFEST}'))


def open_bundle(name_or_folder: str) -> Bundle:
    """
    Open and check a bundle.

    :param name_or_folder: the name of a shipped bundle, or a folder.
    :return: the bundle; every graph's hash was checked.
    :raises BundleError: there is none, or it does not fit its manifest.
    """
    folder = _folder(name_or_folder)
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise BundleError(
            f'no bundle {name_or_folder!r}: needed a folder with {MANIFEST}, or one of the '
            'shipped names: '
            f'{", ".join(shipped_bundles())}; set the parameter `model`'
        )
    try:
        raw = json.loads(manifest.read_text(encoding='utf-8'))
        return _read(raw, folder, manifest)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(
            f'{manifest}: not JSON ({error}); export or download the bundle again'
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f'{manifest}: {error}; export the bundle again with this version'
        ) from error
    except OSError as error:
        raise BundleError(
            f'{error.filename}: {error.strerror}; check the file and its permissions'
        ) from error


def _folder(name_or_folder: str) -> Path:
    shipped = SHIPPED / name_or_folder
    try:
        is_name = '/' not in name_or_folder and (shipped / MANIFEST).is_file()
        folder = shipped if is_name else Path(name_or_folder).expanduser()
        folder.is_dir()  # asks the file system, which may refuse the very name
    except (OSError, RuntimeError, ValueError) as error:
        raise BundleError(f'model {name_or_folder[:80]!r} is no folder: {error}') from error
    return folder


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """
    Write a manifest with the hashes of the graphs that lie in the folder.

    :param folder: the bundle's folder.
    :param manifest: every key of a manifest but `format`; `sha256` of graphs and their variants is
        filled in.
    """

    def hashed(entry: dict[str, Any]) -> dict[str, Any]:
        filled = {**entry, 'sha256': sha256_of(folder / entry['file'])}
        if 'variants' in entry:
            filled['variants'] = {name: hashed(other) for name, other in entry['variants'].items()}
        return filled

    graphs = {
        kind: [hashed(entry) for entry in entries] for kind, entries in manifest['graphs'].items()
    }
    text = json.dumps({'format': FORMAT, **manifest, 'graphs': graphs}, indent=2)
    (folder / MANIFEST).write_text(text + '\n', encoding='utf-8')


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _read(raw: dict[str, Any], folder: Path, manifest: Path) -> Bundle:
    if raw.get('format') != FORMAT:
        raise BundleError(
            f'{manifest}: format {raw.get("format")!r}, this version reads {FORMAT}; export the '
            'bundle again'
        )
    known = _KEYS | _OPTIONAL_KEYS
    if unknown := sorted(set(raw) - known):
        raise ValueError(f'unknown key {unknown[0]!r}; known keys: {", ".join(sorted(known))}')
    if missing := sorted(_KEYS - set(raw)):
        raise ValueError(f'key {missing[0]!r} is missing')
    if raw['channels'] != 'rgb':
        raise ValueError(f"channels {raw['channels']!r}, this version feeds 'rgb'")
    if unknown := sorted(set(raw['graphs']) - {'depth', 'motion'}):
        raise ValueError(f'unknown graph {unknown[0]!r}; known graphs: depth, motion')
    depth = tuple(_graph(entry, folder) for entry in raw['graphs'].get('depth', []))
    if not depth:
        raise ValueError('no depth graph')
    motion = tuple(_graph(entry, folder) for entry in raw['graphs'].get('motion', []))
    intrinsics = str(raw['intrinsics'])
    _check_motion(depth, motion, intrinsics)
    near, far = (float(value) for value in raw['depth_range'])
    unit_mm = float(raw['unit_mm'])
    if not 0 < near < far or not 0 < unit_mm < float('inf'):
        raise ValueError(
            f'depth_range {near, far} and unit_mm {unit_mm} must be positive and ordered'
        )
    return Bundle(
        folder=folder,
        name=str(raw['name']),
        version=str(raw['version']),
        depth=depth,
        motion=motion,
        depth_range=(near * unit_mm, far * unit_mm),
        unit_mm=unit_mm,
        intrinsics=intrinsics,
        card=dict(raw['card']),
        input=dict(raw.get('input', {})),
    )


def _check_motion(depth: tuple[Graph, ...], motion: tuple[Graph, ...], intrinsics: str) -> None:
    """Motion graphs take the depth graphs' sizes and say how they give K."""
    if intrinsics not in ('none', *K_OFFSETS):
        raise ValueError(f'intrinsics {intrinsics!r}; known: none, {"; ".join(K_OFFSETS)}')
    if bool(motion) != (intrinsics != 'none'):
        raise ValueError(
            f'intrinsics {intrinsics!r} with {len(motion)} motion graphs; needed a formula with '
            "motion graphs and 'none' without"
        )
    if motion and {(g.height, g.width) for g in motion} != {(g.height, g.width) for g in depth}:
        raise ValueError('motion graphs of other sizes than the depth graphs')


def _graph(entry: dict[str, Any], folder: Path) -> Graph:
    if set(entry) - {'variants'} != _GRAPH_KEYS:
        raise ValueError(f'a graph has the keys {sorted(_GRAPH_KEYS)}, found {sorted(entry)}')
    others = entry.get('variants', {})
    if unknown := sorted(set(others) - set(PRECISIONS)):
        raise ValueError(f'unknown variant {unknown[0]!r}; known: {", ".join(PRECISIONS)}')
    for file in (entry['file'], *(other['file'] for other in others.values())):
        if (folder / file).resolve().parent != folder.resolve():
            raise ValueError(f'graph file {file!r} lies outside the bundle')
    path = folder / entry['file']
    data = _checked_bytes(path, entry['sha256'])
    height, width = int(entry['height']), int(entry['width'])
    return Graph(path, data, height, width, entry['sha256'], others)


def _checked_bytes(path: Path, sha256: str) -> bytes:
    """The file's content, which has the manifest's hash."""
    if not path.is_file():
        raise BundleError(
            f'{path}: the manifest names it and it is not there; export or download the bundle '
            'again'
        )
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BundleError(
            f'{path}: its SHA-256 is {found[:12]}…, the manifest says '
            f'{str(sha256)[:12]}…: the file was '
            'changed or cut short; export or download the bundle again'
        )
    return data
