# SPDX-License-Identifier: Apache-2.0
"""The node's process, from its first import to its end; the node itself: endoscope_node.py."""

import os
import signal
import sys
import threading

from endosfm3d_ros.threads import one_thread_for_small_things

one_thread_for_small_things()

WAKE_S = 1.0  # how long an end that was asked for may take to be seen


def main(args: list[str] | None = None) -> int:
    """
    Run the node until it is told to stop.

    :param args: as typed; None takes the process's own.
    :return: exit code: 0, or 2 where a ROS argument or a parameter is wrong.
    """
    # A second goes by while the libraries load; nothing is open yet, so Ctrl-C just ends it.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: os._exit(0))
    import endosfm3d_ros.endoscope_node  # noqa: F401

    return _run(args)


def _run(args: list[str] | None) -> int:
    import rclpy
    from rclpy.clock import Clock, ClockType
    from rclpy.exceptions import ParameterException
    from rclpy.executors import ExternalShutdownException

    from endosfm3d_ros.allocator import keep_freed_pictures
    from endosfm3d_ros.endoscope_node import EndoscopeNode

    keep_freed_pictures()
    # rclpy's own handlers end the spin. An exception at any place, as Python's would raise, leaves
    # objects of rclpy half made, which complain aloud.
    stopped = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: stopped.set())
    node = None
    try:
        rclpy.init(args=args)
        if stopped.is_set():
            return 0  # before rclpy listened to signals
        node = EndoscopeNode()
        # rclpy wakes the spin first and ends the context then: in between it may go to sleep
        # again, and where nothing else wakes it (no timer before configure) for ever
        node.create_timer(WAKE_S, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
        if node.get_parameter('autostart').value:
            node.start()
        rclpy.spin(node)
    except ExternalShutdownException:
        pass
    except (ValueError, RuntimeError, ParameterException) as error:  # rclpy's are the latter two
        if stopped.is_set():
            return 0  # it overtook something that was about to be made or published
        if node is None:
            print(f'endosfm3d_node: {" ".join(str(error).split())}', file=sys.stderr)
            return 2
        if node.context.ok():
            raise
    finally:
        if node:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
