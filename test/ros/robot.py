# SPDX-License-Identifier: Apache-2.0
"""The robot's side of a test: driver, consumer, and the node in its own process or in ours."""

import gc
import os
import subprocess
import sys
import time
from array import array
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from tf2_msgs.msg import TFMessage

from endosfm3d_ros.endoscope_node import EndoscopeNode
from endosfm3d_ros.outputs import PRIVATE_TOPICS

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
ANSWER_S = 5.0  # a service that answers a client it has not found yet loses the answer
HEIGHT, WIDTH = 240, 320
REMAPPED = ('--ros-args', '-r', 'image:=/scope/image')
PER_FRAME = tuple(topic for topic in (*PRIVATE_TOPICS, 'tf') if topic != 'path')
PROFILE = ROOT / 'config' / 'fastdds_large_images.xml'
os.environ['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(PROFILE)  # as a driver should


def wall(shift_px: float) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(40, 220, (40, 60, 3)).astype(np.uint8)
    large = cv2.resize(coarse, (600, 400), interpolation=cv2.INTER_CUBIC)
    u, v = np.meshgrid(
        np.arange(WIDTH, dtype=np.float32) + shift_px, np.arange(HEIGHT, dtype=np.float32) + 50
    )
    return cv2.remap(large, u.astype(np.float32), v, cv2.INTER_CUBIC)


def stamp(message: Any) -> int:
    head = message.transforms[0].header if hasattr(message, 'transforms') else message.header
    return int(head.stamp.sec) * 1_000_000_000 + int(head.stamp.nanosec)


class Robot:
    """A driver that sends pictures, and a consumer that listens to everything."""

    def __init__(self) -> None:
        self.node: Node = rclpy.create_node('robot')
        self.camera = self.node.create_publisher(Image, '/scope/image', 5)
        self.seen: dict[str, list[Any]] = defaultdict(list)
        for topic, kind in PRIVATE_TOPICS.items():
            self._listen(kind, f'/endosfm3d/{topic}', topic)
        self._listen(TFMessage, '/tf', 'tf')
        self._listen(DiagnosticArray, '/diagnostics', 'diagnostics')
        self.stamp_ns = 1_700_000_000_000_000_000
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)

    def _listen(self, kind: Any, topic: str, name: str) -> None:
        self.node.create_subscription(kind, topic, self.seen[name].append, QoSProfile(depth=20))

    def log(self) -> str:
        """What the node said so far."""
        raise NotImplementedError

    def check_alive(self) -> None:
        """Fail where the node is gone."""

    def wait(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not done():
            self.executor.spin_once(timeout_sec=0.05)
            assert time.monotonic() < end, f'{what} did not happen; the node said: {self.log()}'
            self.check_alive()

    def wait_for_log(self, said: str) -> None:
        self.wait(lambda: said in self.log(), f'a line with {said!r}')

    def message(
        self, image: np.ndarray, frame_id: str = 'scope_optical', stamp_ns: int | None = None
    ) -> Image:
        self.stamp_ns += 40_000_000
        message = Image(
            height=image.shape[0], width=image.shape[1], encoding='rgb8', step=image.shape[1] * 3
        )
        message.data = array('B', image.tobytes())
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(
            self.stamp_ns if stamp_ns is None else stamp_ns, 1_000_000_000
        )
        message.header.frame_id = frame_id
        return message

    def status(self) -> dict[str, str]:
        return {pair.key: pair.value for pair in self.seen['status'][-1].status[0].values}

    def answer_to(self, message: Image, topics: tuple[str, ...] = PER_FRAME) -> dict[str, str]:
        """Publish one picture, wait until its outputs are here, and return its status."""

        def answered() -> bool:  # nothing orders one topic's messages among another's
            return all(
                self.seen[topic] and stamp(self.seen[topic][-1]) == stamp(message)
                for topic in topics
            )

        self.camera.publish(message)
        self.wait(answered, 'an answer')
        return self.status()

    def call(self, kind: Any, service: str, request: Any) -> Any:
        client = self.node.create_client(kind, service)
        self.wait(client.service_is_ready, f'the service {service}')
        self.meet()
        future = client.call_async(request)
        self.wait(future.done, f'an answer of {service}')
        self.node.destroy_client(client)
        return future.result()

    def meet(self) -> None:
        """
        Wait until the node knows of all that we have opened so far.

        DDS tells it in the order of opening, so that an answer to a client that was opened last
        shows it. A question that changes nothing may be asked again where its answer was lost.
        """
        client = self.node.create_client(GetState, '/endosfm3d/get_state')
        self.wait(client.service_is_ready, 'the service get_state')
        future, asked = client.call_async(GetState.Request()), time.monotonic()

        def answered() -> bool:
            nonlocal future, asked
            if not future.done() and time.monotonic() > asked + ANSWER_S:
                client.remove_pending_request(future)
                future, asked = client.call_async(GetState.Request()), time.monotonic()
            return bool(future.done())

        self.wait(answered, 'an answer of get_state')
        self.node.destroy_client(client)

    def go(self, transition: int | str) -> bool:
        """Ask for a transition as a lifecycle manager does, by number or by label."""
        request = ChangeState.Request()
        if isinstance(transition, str):
            request.transition.label = transition
        else:
            request.transition.id = transition
        return bool(self.call(ChangeState, '/endosfm3d/change_state', request).success)

    def state(self) -> str:
        answer = self.call(GetState, '/endosfm3d/get_state', GetState.Request())
        return str(answer.current_state.label)

    def ready(self, driver: Any = None) -> None:
        driver = driver or self.camera
        self.wait(lambda: driver.get_subscription_count() == 1, 'a subscription')
        publishers = [f'/endosfm3d/{topic}' for topic in PRIVATE_TOPICS]
        self.wait(
            lambda: all(self.node.count_publishers(topic) for topic in publishers), 'publishers'
        )
        self.meet()

    def end(self) -> int:
        self.executor.shutdown()
        self.node.destroy_node()
        return 0


class RobotWithProcess(Robot):
    """The node as it is started: a process of its own, its log in a file."""

    def __init__(self, log: Path, *parameters: str) -> None:
        super().__init__()
        self.log_path, self.log_file = log, log.open('wb')
        words = [word for parameter in parameters for word in ('-p', parameter)]
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'endosfm3d_ros.node', *REMAPPED, *words],
            cwd=ROOT,
            stdout=self.log_file,
            stderr=subprocess.STDOUT,
        )

    def log(self) -> str:
        return self.log_path.read_text()

    def check_alive(self) -> None:
        assert self.process.poll() is None, f'the node died: {self.log()}'

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        self.log_file.close()
        super().end()
        return code


class RobotWithNode(Robot):
    """
    The node in this process, where a test can reach into it; the same executor spins both.

    Needs pytest's capfd, which puts standard error in a file: rcl logs below Python. That file is
    read here, not taken: `capfd.readouterr()` reads and then empties it, and a line that another
    thread writes between the two is gone.
    """

    def __init__(self, *parameters: str) -> None:
        words = [word for parameter in parameters for word in ('-p', parameter)]
        self.scope = EndoscopeNode(cli_args=[*REMAPPED, *words])
        super().__init__()
        self.executor.add_node(self.scope)

    def log(self) -> str:
        return Path('/proc/self/fd/2').read_text()

    def end(self) -> int:
        self.scope.close()
        self.scope.destroy_node()
        ended = super().end()
        # rclpy frees a lifecycle node's own services with the node itself, which lies in circles:
        # until it is collected they are still offered, and the next robot asks a ghost, too.
        del self.scope
        gc.collect()
        return ended
