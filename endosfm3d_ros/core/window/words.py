# SPDX-License-Identifier: Apache-2.0
"""
What windows told of the endoscope, carried on without counting anything twice.

Each window has a word, told at its newest keyframe. Once that keyframe is the map's oldest the two
windows share no other, so its word is what is believed before the present one. Until then it is
heard beside the present one's, which saw some of the same pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from endosfm3d_ros.core.adjustment.bundle_adjustment import Solution
from endosfm3d_ros.core.window import zoom_steps
from endosfm3d_ros.core.window.keyframe import Keyframe
from endosfm3d_ros.core.window.scope import Scope
from endosfm3d_ros.core.window.scope_told import zoom_variance

CARRIED_ZOOM = 0.003  # sigma of log zoom from one keyframe to the next, as the window has it


@dataclass(frozen=True)
class Words:
    """
    What was told at earlier keyframes.

    :param belief: what windows before this one told of the scope, its zoom at the map's oldest
        keyframe.
    :param since: of the windows whose newest keyframe is in this one, oldest first.
    """

    belief: Scope
    since: tuple[Scope, ...] = ()

    def carried(self, keyframes: Sequence[Keyframe], first: Keyframe) -> 'Words':
        """
        Go on to a window whose oldest keyframe is another.

        :param keyframes: of the window so far; first: the oldest one from now on, one of them.
        """
        belief, since = self.belief, self.since
        if keyframes and first is not keyframes[0]:
            zoomed = first.log_focal - keyframes[0].log_focal
            gone = [view for view in keyframes[1:] if view.number <= first.number]
            rest = zoom_steps.REST * (first.number - keyframes[0].number)
            ran = any(view.zoom_step.runs for view in gone)
            belief = belief.zoomed(zoomed, (CARRIED_ZOOM if ran else rest) ** 2)
        if since and since[0].number == first.number:
            belief, since = since[0], since[1:]
        return Words(belief, since)

    def before(self, number: int) -> 'Words':
        """Without what was told at that keyframe or later."""
        return replace(self, since=tuple(word for word in self.since if word.number < number))

    def with_word(self, word: Scope) -> 'Words':
        """With another one, told at a later keyframe."""
        return replace(self, since=(*self.since, word))

    def measured(self, log_focal: float, sigma: float, keyframes: Sequence[Keyframe]) -> 'Words':
        """After somebody else measured the focal length at the newest of the map's keyframes."""
        ways = {view.number: view.log_focal - keyframes[-1].log_focal for view in keyframes}
        first = next(iter(ways.values()), 0.0)
        return Words(
            self.belief.measured(log_focal + first, sigma),
            tuple(word.measured(log_focal + ways[word.number], sigma) for word in self.since),
        )

    def averaged_with(
        self, scope: Scope, solution: Solution, keyframes: Sequence[Keyframe]
    ) -> Scope:
        """
        The words of this window and of an earlier one on the focal length, the surest that knew
        what this one has not seen, each as much as it is sure of it: to take the surer one alone
        would make it flip between the two.

        :param scope: this window's; solution: that told it, of these keyframes.
        """
        numbers, newest = [view.number for view in keyframes], keyframes[-1].log_focal
        earlier = []
        for word in self.since:
            if word.first < scope.first:
                then = numbers.index(word.number)
                way = newest - keyframes[then].log_focal
                earlier.append(word.zoomed(way, zoom_variance(solution, then)))
        if not earlier:
            return scope
        best = min(earlier, key=lambda word: word.log_focal_sigma)
        best = replace(best, distortion=scope.distortion)  # as the points are placed by it
        share = scope.log_focal_sigma**2
        share /= share + best.log_focal_sigma**2  # of the earlier one
        return scope.averaged(best, share)
