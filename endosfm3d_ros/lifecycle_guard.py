# SPDX-License-Identifier: Apache-2.0
"""What rclpy's lifecycle node leaves out: a transition that fails says why; none ends the node."""

import time
from collections.abc import Callable
from functools import wraps
from traceback import format_exc
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

Callback = Callable[[Any, LifecycleState], TransitionCallbackReturn]
CTRL_C_S = 0.05  # a Ctrl-C that broke an import has reached the context by then


def told(callback: Callback) -> Callback:
    """
    A lifecycle callback whose exception is logged; rclpy makes it ERROR without a word.

    Not after Ctrl-C: what it interrupts (an import becomes an ImportError) is no fault.
    """

    @wraps(callback)
    def telling(node: Any, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return callback(node, state)
        except Exception as error:  # noqa: BLE001  rclpy catches the same, and tells nobody
            time.sleep(CTRL_C_S)
            if not node.context.ok():
                return TransitionCallbackReturn.ERROR  # the end was asked for: nothing to tell
            node.get_logger().error(f'{callback.__name__}: {type(error).__name__}: {error}')
            node.get_logger().debug(format_exc())
            return TransitionCallbackReturn.ERROR

    return telling


class GuardedLifecycleNode(LifecycleNode):
    """
    A lifecycle node that answers a transition its state does not have with success = false.

    rclpy up to 7.1 raises in the executor instead, which ends the process (ros2/rclpy#1209).
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state

    @property
    def state(self) -> str:
        """Label of the current state."""
        return str(self._state_machine.current_state[1])

    def _on_change_state(self, request: Any, response: Any) -> Any:
        """Answer a lifecycle_msgs/ChangeState."""
        wanted = request.transition
        possible = {
            label: number for number, label, *_ in self._state_machine.available_transitions
        }
        if wanted.label in possible or (not wanted.label and wanted.id in possible.values()):
            return self._change_state(request, response)
        self.get_logger().warning(
            f'no transition {wanted.label or wanted.id} while {self.state}; '
            f'possible now: {", ".join(possible)}'
        )
        response.success = False
        return response
