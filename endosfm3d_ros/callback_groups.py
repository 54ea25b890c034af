# SPDX-License-Identifier: Apache-2.0
"""
What the executor need not look after at every picture.

rclpy builds its wait set anew twice for every message, from everything that it waits for, and
holds Python's lock meanwhile, which the worker then lacks: 5 CPU-ms of a picture's 40 ms before
this was here, and half as much again for each message of a busy /tf.
"""

from collections.abc import Iterator
from typing import Any

from rclpy.callback_groups import CallbackGroup, ReentrantCallbackGroup
from rclpy.subscription import Subscription


class Patient(ReentrantCallbackGroup):
    """Served only while it is open: who is in it can wait a second, as reports of QoS can."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = True

    def can_execute(self, entity: Any) -> bool:
        """Whether the executor may wait for this entity now."""
        return self.is_open


class Polled(CallbackGroup):
    """Never served: messages stay with the middleware until `waiting` takes them."""

    def can_execute(self, entity: Any) -> bool:
        """Never."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Never."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Nothing ends that never begins."""


def waiting(subscription: Subscription, at_most: int) -> Iterator[Any]:
    """
    Take the messages of a `Polled` subscription that came since the last time.

    :param at_most: no more than so many at once, or a fast publisher would hold us for ever.
    """
    handle = subscription.handle
    with handle:
        for _ in range(at_most):
            taken = handle.take_message(subscription.msg_type, subscription.raw)
            if taken is None:
                return
            yield taken[0]
