# SPDX-License-Identifier: Apache-2.0
"""The doctor's real traffic: the user's own image topic, or this machine with our own player."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import rclpy
from rclpy.node import Node

from endosfm3d_ros import dds
from endosfm3d_ros.finding import Finding
from endosfm3d_ros.share import shared_file
from endosfm3d_ros.silence import words
from endosfm3d_ros.typed import check_topic
from endosfm3d_ros.watch import Watched, watch

RATE = 30
PATTERN = f'pattern:1920x1080@{RATE}'
START_S = 30.0  # our player comes for sure, on a busy machine late
FEW = 0.3  # of what our player should send: what came last tells nothing of what was lost after it
LOST_BADLY = 0.01  # share
OLD_MS = 100.0  # of a picture when it comes, at the median
OTHER_CLOCK_MS = 10_000.0  # no camera is so late
UNEVEN = 2.5  # the 99th percentile of the intervals over their median


def examine_topic(topic: str, seconds: float) -> Iterator[Finding]:
    """Listen to the user's own publisher and judge what came."""
    try:
        check_topic(topic)
    except ValueError as error:
        yield Finding('bad', str(error))
        return
    with _Ros() as node:
        yield from judge(watch(node, topic, seconds))


def examine_machine(seconds: float) -> Iterator[Finding]:
    """Send 1080p30 from a process of its own: as this shell would, and with our profile."""
    plain = dict(os.environ)
    best = 'with the profile of this shell'
    runs = {best: plain} if dds.has_profile() else {'without a profile': plain}
    if not dds.has_profile() and dds.implementation() == dds.FAST_DDS:
        best = 'with the large-image profile at the sender'
        profile = str(shared_file(dds.FAST_DDS_PROFILE))
        runs[best] = plain | dict.fromkeys(dds.VARIABLES[dds.FAST_DDS], profile)
    with _Ros() as node:
        for number, (name, environment) in enumerate(runs.items()):
            topic = f'/endosfm3d_doctor_{os.getpid()}/image_{number}'
            seen = _sent_and_watched(node, topic, seconds, environment)
            yield _machine_finding(name, seen, RATE * seconds, is_best=name == best)


def judge(seen: Watched) -> Iterator[Finding]:
    """What is to be said of a watched topic, the worst things with their cure."""
    for offer in seen.offers:
        yield Finding('ok', f'{offer.node} publishes {offer.type_name} ({words(offer.qos)})')
    if len(seen.offers) > 1:
        yield Finding(
            'bad',
            f'{len(seen.offers)} publishers on {seen.topic}: two pictures in turn are no video',
            'remap one of them',
        )
    if not seen.received:
        yield Finding('bad', f'nothing on {seen.topic}; {seen.why_silent}')
        return
    yield from _pictures(seen)
    yield _rate(seen)
    yield _loss(seen)
    yield from _stamps(seen)
    yield _age(seen)


def _pictures(seen: Watched) -> Iterator[Finding]:
    for what in seen.pictures:
        yield Finding('ok', what)
    if len(seen.pictures) > 1:
        text = 'size, encoding or frame changed meanwhile: each change of the size or the frame'
        yield Finding('note', f'{text} opens an epoch')
    for why, times in seen.refusals.items():
        text = f'{times} of {sum(seen.pictures.values())} pictures that were read are refused'
        yield Finding('bad', f'{text}: {why}')
    if seen.combed:
        text = f'{seen.combed} of {sum(seen.pictures.values())} pictures that were read are combed'
        cure = 'progressive output of the video processor, or the parameter deinterlace: top'
        yield Finding('note', f'{text}: the video is interlaced', cure)


def _rate(seen: Watched) -> Finding:
    median, p99, longest = seen.intervals_ms
    text = (
        f'{seen.received} pictures in {seen.seconds:.1f} s: {seen.rate:.1f} Hz (by stamps '
        f'{seen.stamp_rate:.1f}); intervals {median:.0f} / {p99:.0f} / {longest:.0f} ms '
        '(median / p99 / longest)'
    )
    return Finding('note' if p99 > UNEVEN * median else 'ok', text)


def _loss(seen: Watched) -> Finding:
    if seen.lost is None:
        text = 'loss can not be told: several publishers, or a middleware without numbers'
        return Finding('note', text)
    sent = seen.received + seen.lost
    text = f'{seen.lost} of {sent} pictures lost on the way ({seen.lost / sent:.1%})'
    if not seen.lost:
        return Finding('ok', text)
    state = 'bad' if seen.lost > LOST_BADLY * sent else 'note'
    return Finding(state, text, _cure_of_loss())


def _stamps(seen: Watched) -> Iterator[Finding]:
    for count, what, cure in (
        (seen.zero_stamps, 'have no stamp', 'stamp them in the driver'),
        (
            seen.backward_stamps,
            'are stamped before the one before: each opens an epoch',
            'stamp them in the driver, once, at acquisition',
        ),
        (
            seen.repeated_stamps,
            'have the stamp of the one before: they are refused',
            'stamp every picture anew in the driver',
        ),
    ):
        if count:
            yield Finding('bad', f'{count} of {seen.received} pictures {what}', cure)


def _age(seen: Watched) -> Finding:
    wire = f'; {seen.from_send.p50:.1f} ms of it on the wire' if seen.from_send else ''
    age = seen.from_stamp
    if age is None:
        return Finding('note', f'latency can not be told without stamps{wire}')
    if not -OLD_MS < age.p50 < OTHER_CLOCK_MS:
        text = (
            f"stamps are {age.p50 / 1e3:+.1f} s from this machine's clock: another clock "
            '(a bag, a simulation, or clocks that are not synchronised)'
        )
        return Finding('note', text, 'a bag or simulation: use_sim_time; two machines: chrony')
    text = (
        f'latency from stamp to receipt {age.p50:.1f} / {age.p95:.1f} / {age.worst:.1f} ms '
        f'(p50 / p95 / worst){wire}'
    )
    return Finding('note' if age.p50 > OLD_MS or age.p50 < 0 else 'ok', text)


def _machine_finding(name: str, seen: Watched, sent: float, is_best: bool) -> Finding:
    """What came of the pictures of our own player, which should have sent so many."""
    if not seen.received:
        return Finding('bad', f'1080p30 from our own player, {name}: {seen.why_silent}')
    lost, age = seen.lost or 0, seen.from_stamp
    share = lost / (seen.received + lost)
    text = f'1080p30 from our own player, {name}: {lost} of {seen.received + lost} lost'
    text += f' ({share:.1%}), {age.p50:.1f} ms old' if age else f' ({share:.1%})'
    is_few = seen.received + lost < FEW * sent
    if is_few:
        text += f'; nothing is known of the others of some {sent:.0f}'
    if share <= LOST_BADLY and not is_few:
        return Finding('ok', text)
    cure = _cure_of_loss()
    if is_best:
        cure = 'stop other programs; see /dev/shm above; send smaller or compressed pictures'
    return Finding('bad' if is_best else 'note', text, cure)


def _cure_of_loss() -> str:
    line = dds.profile_line()
    if line:
        return f'where the DRIVER is started: {line}'
    return f'send smaller or compressed pictures; we have no profile for {dds.implementation()}'


def _sent_and_watched(
    node: Node, topic: str, seconds: float, environment: Mapping[str, str]
) -> Watched:
    """One run of our own player in a process of its own."""
    words = ['play', PATTERN, '--to', topic, '--loop', '--wait-for', '0']
    player = subprocess.Popen(
        [sys.executable, '-m', 'endosfm3d_ros.cli', *words],
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return watch(node, topic, seconds, START_S)
    finally:
        player.terminate()
        try:
            player.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            player.kill()
            player.wait()


class _Ros:
    """A node of the doctor's own, for a block."""

    def __enter__(self) -> Node:
        rclpy.init(args=[])
        self._node = rclpy.create_node(f'endosfm3d_doctor_{os.getpid()}')
        return self._node

    def __exit__(self, *error: object) -> None:
        self._node.destroy_node()
        rclpy.try_shutdown()
