# SPDX-License-Identifier: Apache-2.0
"""Once a second, for people: rates, latency percentiles, losses, and what is wrong right now."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus

from endosfm3d_ros.core.frame import Reconstruction
from endosfm3d_ros.outputs import Traffic

WINDOW_S = 10.0


@dataclass(frozen=True)
class _Seen:
    time_s: float
    latency_ms: float
    valid: bool


class Diagnostics:
    """
    Collects from the worker, reports to the timer; safe between threads.

    :param facts: what does not change while the node is active: model, runtime, scale.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts, self._lock = facts, threading.Lock()
        self._frames: deque[_Seen] = deque()
        self._last: tuple[Reconstruction, Traffic] | None = None
        self._refused = self._failed = 0
        self._refusal = self._failure = self._trouble = ''

    def frame(
        self, now_s: float, said: Reconstruction, traffic: Traffic, trouble: str = ''
    ) -> None:
        """Note one frame that was reconstructed, and what is wrong around the node."""
        with self._lock:
            self._frames.append(_Seen(now_s, traffic.latency_ms, said.valid))
            self._forget(now_s)
            self._last = (said, traffic)
            self._refusal = self._failure = ''
            self._trouble = trouble

    def refused(self, what: str, why: str) -> None:
        """Note one message that could not be used: a picture, or something beside it, and why."""
        with self._lock:
            self._refused, self._refusal = self._refused + 1, f'{what} refused: {why}'

    def failed(self, why: str) -> None:
        """Note one picture that the node itself failed on, and how."""
        with self._lock:
            self._failed, self._failure = self._failed + 1, why

    def silent(self, why: str) -> None:
        """Note why no picture comes, until one does; what was refused before is past."""
        with self._lock:
            self._refusal, self._trouble = '', why

    def report(self, now_s: float) -> tuple[bytes, str, dict[str, Any]]:
        """
        Sum up the last ten seconds.

        :param now_s: the steady clock that `frame` was called with [s].
        :return: the level of a DiagnosticStatus, one sentence, and keys with values.
        """
        with self._lock:
            self._forget(now_s)
            values = {**self.facts, **self._figures(now_s)}
            level, sentence = self._verdict()
        return level, sentence, values

    def _forget(self, now_s: float) -> None:
        while self._frames and now_s - self._frames[0].time_s > WINDOW_S:
            self._frames.popleft()

    def _figures(self, now_s: float) -> dict[str, Any]:
        seen = self._frames
        span_s = max(now_s - seen[0].time_s, 1e-3) if len(seen) > 1 else WINDOW_S
        values: dict[str, Any] = {
            'rate_hz': len(seen) / span_s,
            'refused': self._refused,
            'failed': self._failed,
        }
        if seen:
            latencies = np.percentile([one.latency_ms for one in seen], (50, 95, 99))
            for name, latency in zip(('p50', 'p95', 'p99'), latencies, strict=True):
                values[f'latency_{name}_ms'] = float(latency)
            values['valid_share'] = float(np.mean([one.valid for one in seen]))
        if self._last:
            said, traffic = self._last
            values |= {
                'received': traffic.received,
                'lost': traffic.lost,
                'dropped': traffic.dropped,
                'k_trust': said.k_trust,
                'k_sigma': said.log_focal_sigma,
                'zoom': said.zoom,
                'zoom_sigma': said.zoom_sigma,
                'distortion': said.distortion,
                'epoch': said.epoch,
            }
        return values

    def _verdict(self) -> tuple[bytes, str]:
        if self._failure:
            return DiagnosticStatus.ERROR, f'the node fails: {self._failure}'
        if self._refusal:
            return DiagnosticStatus.WARN, self._refusal
        if not self._frames:
            none = f'no picture for {WINDOW_S:.0f} s' if self._last else 'no picture yet'
            return DiagnosticStatus.WARN, self._trouble or none
        if self._last and not self._last[0].valid:
            return DiagnosticStatus.WARN, f'nothing to reconstruct: {self._last[0].reason}'
        if self._trouble:
            return DiagnosticStatus.WARN, self._trouble
        return DiagnosticStatus.OK, 'ok'
