# SPDX-License-Identifier: Apache-2.0
"""Publish a video, a folder of pictures or a bag as an image topic, like a camera would."""

import argparse
import json
import queue
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from endosfm3d_ros.allocator import keep_freed_pictures
from endosfm3d_ros.bags.frames import open_frames
from endosfm3d_ros.bags.source import FrameSource
from endosfm3d_ros.core.frame import Frame
from endosfm3d_ros.outfile import check_outfile, write_outfile
from endosfm3d_ros.pictures_in import image_to_rgb
from endosfm3d_ros.typed import check_count, check_topic

DEFAULT_TOPIC = '/endoscope/image_raw'
DECODED_AHEAD = 4
LAST_WORDS_S = 2.0
"""How long reliable readers are waited for: unacknowledged pictures end with the process [s]."""

LINGER_S = 0.3
"""How long the player stays after its last picture: best-effort readers acknowledge nothing, and
what they have not taken yet from shared memory ends with the process [s]."""

LARGEST_STEP_S = 5.0
"""A longer pause between two stamps is a cut in the recording, not a pause to play [s]."""


@dataclass(frozen=True)
class Played:
    """
    What a player did.

    :param sent: frames published.
    :param rate: frames a second between the first and the last [Hz]; 0 for fewer than two.
    :param nominal_rate: the rate that was asked for [Hz].
    :param late: frames published more than half a period after their time.
    :param cpu_ms_per_frame: CPU time of this process, decoding included [ms].
    :param shortfall: a sentence on frames the source announced and did not give, or ''.
    :param stamps_ns: the stamp each frame was sent under [ns].
    :param stopped: ended by Ctrl-C or by the end of ROS, not by the source's end.
    """

    sent: int
    rate: float
    nominal_rate: float
    late: int
    cpu_ms_per_frame: float
    shortfall: str
    stamps_ns: tuple[int, ...]
    stopped: bool = False


class Schedule:
    """
    When each frame is due: at the distances of the source's stamps, never two in one bunch.

    A frame that comes late moves all later ones, as a camera never sends the missed ones at once.
    """

    def __init__(self, period: float, by_stamps: bool) -> None:
        """
        Start when the first frame is asked for.

        :param period: nominal distance of two frames [s].
        :param by_stamps: follow the stamps; False spaces all frames by the period.
        """
        self.late = 0
        self._period, self._by_stamps = period, by_stamps
        self._due = 0.0
        self._stamp_ns: int | None = None

    def next_due(self, stamp_ns: int, now: float) -> float:
        """
        Say when to publish the next frame.

        :param stamp_ns: its stamp in the source [ns].
        :param now: a steady clock's time when the frame is ready [s].
        :return: the time to publish it by the same clock, not before `now` [s].
        """
        due = now if self._stamp_ns is None else self._due + self._step(stamp_ns)
        if now > due + self._period / 2:
            self.late += 1
        self._due, self._stamp_ns = max(due, now), stamp_ns
        return self._due

    def begun(self, now: float) -> None:
        """
        Note when the sending of the frame begins: a sleep on a busy machine ends late.

        :param now: the steady clock's time [s]; a frame as late as that moves all later ones too.
        """
        if now > self._due + self._period / 2:
            self.late += 1
            self._due = now

    def _step(self, stamp_ns: int) -> float:
        """Distance to the frame before [s]; the period where stamps say nothing: a loop, a cut."""
        step = (stamp_ns - (self._stamp_ns or 0)) * 1e-9
        return step if self._by_stamps and 0 < step <= LARGEST_STEP_S else self._period


class ImageSender:
    """Publishes pictures through one message whose memory is filled in place."""

    def __init__(self, publisher: Publisher) -> None:
        """Send with this publisher of sensor_msgs/Image."""
        self._publisher = publisher
        self._message = Image(encoding='rgb8')
        self._pixels = np.empty((0, 0, 3), np.uint8)
        self._stamp_ns = 0

    def send(self, image: np.ndarray, frame_id: str) -> int:
        """
        Publish a picture under the clock's time; stamps always grow.

        :param image: (H, W, 3) uint8 RGB.
        :param frame_id: the optical frame.
        :return: the stamp [ns].
        """
        if image.shape != self._pixels.shape:
            self._resize(image.shape[1], image.shape[0])
        np.copyto(self._pixels, image)
        self._stamp_ns = max(time.time_ns(), self._stamp_ns + 1)
        header = self._message.header
        header.stamp.sec, header.stamp.nanosec = divmod(self._stamp_ns, 1_000_000_000)
        header.frame_id = frame_id
        self._publisher.publish(self._message)
        return self._stamp_ns

    def _resize(self, width: int, height: int) -> None:
        """New memory for pictures of another size [px]."""
        self._message.width, self._message.height, self._message.step = width, height, width * 3
        self._message.data = array('B', bytes(width * height * 3))
        # The message may have copied the array, so the view must be of what it holds.
        self._pixels = np.frombuffer(self._message.data, np.uint8).reshape(height, width, 3)


class DecodedAhead:
    """Frames read in a thread, a few ahead, so that a slow one does not delay the next."""

    def __init__(self, source: FrameSource, loop: bool) -> None:
        """
        Start reading.

        :param source: the frames.
        :param loop: start again at the end, for ever.
        """
        self._source, self._loop = source, loop
        self._frames: queue.Queue[Frame | Exception | None] = queue.Queue(maxsize=DECODED_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name='decode', daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames; an error of the reader comes out here."""
        while (item := self._frames.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def __enter__(self) -> Self:
        """Read in this block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._thread.join(timeout=5.0)

    def _read(self) -> None:
        try:
            while not self._stopped.is_set():
                for frame in self._source:
                    if not self._put(frame):
                        return
                if not self._loop:
                    break
            self._put(None)
        except Exception as error:  # noqa: BLE001 - raised again where frames are taken
            self._put(error)

    def _put(self, item: Frame | Exception | None) -> bool:
        """Wait for room; False when stopped meanwhile."""
        while not self._stopped.is_set():
            try:
                self._frames.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False


def play(
    node: Node,
    source: FrameSource,
    topic: str = DEFAULT_TOPIC,
    *,
    reliability: str = 'reliable',
    loop: bool = False,
    steady: bool = False,
    count: int | None = None,
    wait_for: int = 1,
    wait_s: float = 30.0,
    start_delay_s: float = 1.0,
) -> Played:
    """
    Publish the frames of a source as sensor_msgs/Image rgb8 at its own rate, stamped by the clock.

    Reliable is the default, as REP 2003 wants of drivers: best-effort subscribers (our node) get
    the same from it, and reliable ones (RViz) get pictures at all.

    :param node: publishes; it need not spin.
    :param source: the frames.
    :param topic: where to publish.
    :param reliability: reliable or best_effort.
    :param loop: start again at the end, for ever.
    :param steady: space the frames by the source's rate instead of its stamps.
    :param count: stop after so many frames.
    :param wait_for: subscribers to wait for before the first frame; 0 waits for none.
    :param wait_s: how long to wait for them [s].
    :param start_delay_s: pause after they are there, so that both sides know each other [s].
    :return: what was done, also when ROS was shut down meanwhile.
    :raises ValueError: a source that breaks off with an error.
    :raises TimeoutError: nobody listens.
    """
    profile = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability.upper()])
    publisher = node.create_publisher(Image, topic, profile)
    sender = ImageSender(publisher)
    schedule = Schedule(1.0 / source.rate, by_stamps=not steady)
    sent, first, last, cpu = 0, 0.0, 0.0, time.process_time()
    stamps_ns: list[int] = []
    stopped = False
    try:
        with DecodedAhead(source, loop) as frames:
            _wait_for_subscribers(publisher, topic, wait_for, wait_s)
            _sleep_until(time.monotonic() + (start_delay_s if wait_for else 0.0))
            cpu = time.process_time()
            for frame in frames:
                _sleep_until(schedule.next_due(frame.stamp_ns, time.monotonic()))
                schedule.begun(time.monotonic())
                stamps_ns.append(sender.send(frame.image, frame.frame_id))
                last = time.monotonic()
                first = first or last
                sent += 1
                if sent == count:
                    break
            publisher.wait_for_all_acked(Duration(seconds=LAST_WORDS_S))
            _sleep_until(last + LINGER_S)
    except (KeyboardInterrupt, ExternalShutdownException):
        stopped = True  # a usual end of a player
    except RuntimeError:  # rclpy's own errors are RuntimeErrors
        if rclpy.ok():
            raise
        stopped = True  # Ctrl-C overtook a picture that was about to be sent
    rate = (sent - 1) / (last - first) if sent > 1 else 0.0
    cpu_ms = (time.process_time() - cpu) * 1e3 / max(sent, 1)
    return Played(
        sent,
        rate,
        source.rate,
        schedule.late,
        cpu_ms,
        source.shortfall,
        tuple(stamps_ns),
        stopped,
    )


def _wait_for_subscribers(publisher: Publisher, topic: str, wanted: int, seconds: float) -> None:
    """Return when so many listen; a TimeoutError says how many do."""
    end = time.monotonic() + seconds
    while (listening := publisher.get_subscription_count()) < wanted:
        if time.monotonic() > end:
            raise TimeoutError(
                f'{listening} of {wanted} subscribers on {topic} after {seconds:g} s; start the '
                f'node (image:={topic}) under the same ROS_DOMAIN_ID, or play with --wait-for 0'
            )
        _sleep_until(time.monotonic() + 0.05)


def _sleep_until(due: float) -> None:
    """Sleep to a time of the steady clock [s]; ends early with ExternalShutdownException."""
    while (rest := due - time.monotonic()) > 0:
        if not rclpy.ok():
            raise ExternalShutdownException
        time.sleep(min(rest, 0.2))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `endosfm3d play`."""
    parser.add_argument(
        'input',
        type=Path,
        help='a video file, a folder of pictures, a rosbag2, or pattern:1920x1080@30',
    )
    parser.add_argument(
        '--to',
        default=DEFAULT_TOPIC,
        metavar='TOPIC',
        help='where to publish (default: %(default)s)',
    )
    parser.add_argument('--topic', help="a bag's image topic; needed when it has several")
    parser.add_argument(
        '--rate',
        type=float,
        help='frames a second [Hz]; needed for pictures (default: as recorded)',
    )
    parser.add_argument('--frame-id', help="the camera's optical frame (default: the input's own)")
    parser.add_argument('--loop', action='store_true', help='start again at the end, for ever')
    parser.add_argument('--count', type=int, metavar='N', help='stop after N frames')
    parser.add_argument(
        '--best-effort', action='store_true', help='offer best effort instead of reliable'
    )
    parser.add_argument(
        '--wait-for', type=int, default=1, metavar='N',
        help='wait until N subscribers listen (default: %(default)s; 0: start at once)',
    )  # fmt: skip
    parser.add_argument(
        '--wait', type=float, default=30.0, metavar='SECONDS',
        help='give up when they are not there after this time (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--facts', type=Path, metavar='FILE.json', help='write what was sent as JSON'
    )


def run(arguments: argparse.Namespace) -> int:
    """`endosfm3d play`: 0 when frames were sent, 1 with one line on stderr when not."""
    keep_freed_pictures()
    try:
        check_topic(arguments.to)
        check_count('--count', arguments.count)
        check_outfile(arguments.facts)
        source = open_frames(
            arguments.input,
            topic=arguments.topic,
            rate=arguments.rate,
            frame_id=arguments.frame_id,
            decode=image_to_rgb,
        )
        rclpy.init(args=[])
        node = rclpy.create_node('endosfm3d_player')
        try:
            print(f'playing {source.name} at {source.rate:g} Hz on {arguments.to}', flush=True)
            played = play(
                node,
                source,
                arguments.to,
                reliability='best_effort' if arguments.best_effort else 'reliable',
                loop=arguments.loop,
                steady=arguments.rate is not None,
                count=arguments.count,
                wait_for=arguments.wait_for,
                wait_s=arguments.wait,
            )
        finally:
            node.destroy_node()
            rclpy.try_shutdown()
        write_outfile(arguments.facts, json.dumps(asdict(played), indent=2))
    except (ValueError, OSError) as error:  # that nobody listens is one, too
        print(f'endosfm3d play: {error}', file=sys.stderr)
        return 1
    print(
        f'sent {played.sent} frames at {played.rate:.2f} Hz, {played.late} late, '
        f'{played.cpu_ms_per_frame:.1f} ms CPU each'
    )
    if played.shortfall:
        print(played.shortfall, file=sys.stderr)
    return 0 if played.sent or played.stopped else 1
