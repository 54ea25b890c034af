# SPDX-License-Identifier: Apache-2.0
"""
What the product costs on this machine, beside what people usually run; docs/performance.md
explains the columns.

    python -m bench              all of it but the soak and the transport, in about 15 minutes
    python -m bench live         player -> node -> listener, ours and the plain node
    python -m bench engines      depth in every runtime, and in torch
    python -m bench stages       one frame, stage by stage
    python -m bench messages     messages to arrays and back
    python -m bench paper        the paper's networks on this CPU, in int8 and in torch
    python -m bench soak         half an hour at 30 Hz
    python -m bench transport    what DDS takes, with an empty node (26 minutes)
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from bench import dds_transport, engines, live, messages, paper, picture, soak
from endosfm3d_ros import bench as user
from endosfm3d_ros import parameters
from endosfm3d_ros.allocator import keep_freed_pictures
from endosfm3d_ros.bundle import shipped_bundles

RATES = (25.0, 30.0, 60.0)


def run_live(asked: argparse.Namespace, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """All sizes and rates with our node; the plain node and the other bundles at the first."""
    first = live.Case(size=asked.sizes[0], rate=asked.rates[0], seconds=asked.seconds)
    cases = [
        live.Case(size=size, rate=rate, seconds=asked.seconds)
        for size, rate in product(asked.sizes, asked.rates)
    ]
    if find_spec('torch'):
        cases.insert(1, live.Case('plain', first.size, first.rate, seconds=asked.seconds))
    else:
        tell('the plain node is left out: it needs torch, run: make setup-training')
    others = [name for name in asked.bundles if name != first.model]
    cases += [live.Case(**{**asdict(first), 'model': name}) for name in others]
    cases += [live.Case(**{**asdict(first), 'engine': 'onnxruntime'})]
    rows = []
    for case in cases:
        rows.append(live.measure(case))
        tell(live.as_table(rows[-1:]).splitlines()[-1])
    return rows


def run_engines(asked: argparse.Namespace, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every bundle that is asked for."""
    rows = [row for name in asked.bundles for row in engines.measure(name)]
    tell(engines.as_table(rows))
    return rows


def run_stages(asked: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    """The default bundle, at every size."""
    found = {}
    for size in asked.sizes:
        costs = user.stages(dict(parameters.DEFAULTS), size, 100)
        tell(f'{size}\n{user.as_table(costs)}')
        found[size] = {name: asdict(cost) for name, cost in costs.items()}
    return found


def run_messages(asked: argparse.Namespace, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """At 1080p."""
    rows = messages.measure()
    tell(messages.as_table(rows))
    return rows


def run_paper(_: argparse.Namespace, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Random weights of its size."""
    if not find_spec('torch') or not find_spec('nncf'):
        tell('left out: it needs torch and NNCF, run: make setup-training')
        return []
    rows = paper.measure()
    tell(paper.as_table(rows))
    return rows


def run_soak(asked: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    """At 30 Hz."""
    row = soak.soak(live.Case(size=asked.sizes[0], rate=30.0), asked.minutes)
    tell(soak.as_text(row))
    return row


PARTS: dict[str, Callable[[argparse.Namespace, Callable[[str], None]], Any]] = {
    'stages': run_stages,
    'messages': run_messages,
    'engines': run_engines,
    'live': run_live,
    'paper': run_paper,
    'soak': run_soak,
}


def main(words: list[str]) -> int:
    """Measure what is asked for; print it as it comes, keep it as JSON and as a picture."""
    if words[:1] == ['transport']:
        return dds_transport.main(words[1:])
    parser = argparse.ArgumentParser(
        prog='python -m bench',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('part', nargs='?', choices=[*PARTS, 'transport'])
    parser.add_argument('--sizes', nargs='+', choices=list(user.SIZES), default=list(user.SIZES))
    parser.add_argument('--rates', nargs='+', type=float, default=list(RATES))
    parser.add_argument('--bundles', nargs='+', default=shipped_bundles())
    parser.add_argument('--seconds', type=float, default=20.0, help='of each live run')
    parser.add_argument('--minutes', type=float, default=30.0, help='of the soak')
    parser.add_argument('--out', type=Path, default=Path('bench_out'), help='folder')
    asked = parser.parse_args(words)
    keep_freed_pictures()
    # a bench that is killed ends its player, node and listener too, which else run for ever
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    asked.out.mkdir(parents=True, exist_ok=True)
    parts = [asked.part] if asked.part else [name for name in PARTS if name != 'soak']
    found: dict[str, Any] = {'machine': user.machine()}
    for name in parts:
        print(f'\n{name}', flush=True)
        found[name] = PARTS[name](asked, lambda line: print(line, flush=True))
        file = asked.out / f'{asked.part or "bench"}.json'
        file.write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    if 'live' in found and 'engines' in found:
        picture.draw(found, asked.out / 'bench.png')
        print(f'{asked.out / "bench.png"}')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
