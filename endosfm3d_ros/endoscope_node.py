# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: image topic -> mailbox -> pipeline -> topics. Plumbing only; no maths."""

import threading
import time
from contextlib import ExitStack
from traceback import format_exc
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger

from endosfm3d_ros import parameters, ros_parameters
from endosfm3d_ros.allocator import give_back_freed, reserve
from endosfm3d_ros.arrivals import Arrivals
from endosfm3d_ros.bundle import BundleError, open_bundle
from endosfm3d_ros.calibrations_in import Calibrations
from endosfm3d_ros.callback_groups import Patient
from endosfm3d_ros.complaints import Complaints
from endosfm3d_ros.core.frame import Frame, Reconstruction
from endosfm3d_ros.core.kernel import kernel
from endosfm3d_ros.core.picture.rectify import Calibration
from endosfm3d_ros.core.pipeline import Pipeline
from endosfm3d_ros.diagnostics import Diagnostics
from endosfm3d_ros.engines.choose import DepthGraphs, motion_network
from endosfm3d_ros.engines.engine import EngineError
from endosfm3d_ros.inputs import Inputs
from endosfm3d_ros.kinematics_in import KinematicsIn
from endosfm3d_ros.latest import Latest
from endosfm3d_ros.lifecycle_guard import GuardedLifecycleNode, told
from endosfm3d_ros.messages_in import calibration_from, frame_from, rectified
from endosfm3d_ros.messages_out import diagnostic_message, header
from endosfm3d_ros.metric import Metric
from endosfm3d_ros.outputs import PRIVATE_TOPICS, STATE_DEPTH, Outputs, Traffic, queue_depth
from endosfm3d_ros.silence import Silence, nothing_on, offers_on, pictures_there, why_silent
from endosfm3d_ros.tf_out import TfOut

MAX_FAILURES = 10  # in a row; then the node deactivates itself


class EndoscopeNode(GuardedLifecycleNode):
    """
    Depth, motion, intrinsics and points of an endoscope's video, at every frame and under its
    stamp.

    :raises ValueError: an override names no parameter, or has a value that does not fit.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('endosfm3d', **kwargs)
        try:
            ros_parameters.declare(self, self._parameter_overrides)
        except ValueError:
            self.destroy_node()
            raise
        self.add_pre_set_parameters_callback(ros_parameters.widened)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)
        self._complaints = Complaints()
        self._reset_wanted, self._changed = threading.Event(), threading.Event()
        self._configured = ExitStack()  # gives back what configure took
        self._activated = ExitStack()  # and what activate took
        self._worker: threading.Thread | None = None
        self._kinematics: KinematicsIn | None = None
        self._failures = 0

    # lifecycle

    @told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, check the bundle, compile the engines, offer the topics."""
        values = {name: self.get_parameter(name).value for name in parameters.DEFAULTS}
        try:
            settings = parameters.settings(values)
            outputs, inputs = Outputs(values), Inputs(values)
            bundle = open_bundle(values['model'])
            options = parameters.engine_options(values)
            network = DepthGraphs(bundle, values['engine'], options)
            motion = motion_network(bundle, values['engine'], options)
            if not kernel.keeps_something:
                self.get_logger().info('compiling inner loops (once, as a rule): 10 s or more')
            pipeline = Pipeline(network, bundle.sizes, settings, motion)
        except (ValueError, BundleError, EngineError) as error:
            self.get_logger().error(f'not configured: {error}')
            return TransitionCallbackReturn.FAILURE
        self._values, self._network, self._pipeline = values, network, pipeline
        self._outputs, self._inputs = outputs, inputs
        self._metric = Metric(values, pipeline, outputs)
        name = f'{bundle.name} {bundle.version}'
        facts = {'model': name, 'runtime': self._network.runtime, 'engine': self._network.why}
        self._diagnostics = Diagnostics(facts)
        with ExitStack() as taken:
            taken.callback(self._let_go)
            self._offer(taken)
            self._configured = taken.pop_all()
        self.get_logger().info(f'{name}, sizes {bundle.sizes}; {self._network.why}')
        return super().on_configure(state)

    @told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the input and start the worker, which stops first: it reads poses by itself."""
        self._mailbox: Latest[tuple[Any, float]] = Latest()
        self._spare = 0  # bytes of the largest picture that there is room for
        self._arrivals, self._diagnostics = Arrivals(), Diagnostics(self._diagnostics.facts)
        self._calibrations = Calibrations()
        self._failures = 0
        result = super().on_activate(state)
        with ExitStack() as taken:
            self._listen(taken)
            self._worker = threading.Thread(target=self._work, name='reconstruction', daemon=True)
            self._worker.start()
            taken.callback(self._stop_worker)
            self._activated = taken.pop_all()
        self.get_logger().info(f'active: waiting for pictures on {self._input.topic_name}')
        return result

    @told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let the worker finish its frame and close the input."""
        self._activated.close()
        return super().on_deactivate(state)

    @told
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back what configure took."""
        self._configured.close()
        return super().on_cleanup(state)

    @told
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop from any state."""
        self.close()
        return super().on_shutdown(state)

    @told
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back everything after a callback failed: unconfigured, for another try."""
        self.close()
        return super().on_error(state)

    def start(self) -> bool:
        """Configure and activate; False, with the reason and the cure in the log, if it failed."""
        for step in (self.trigger_configure, self.trigger_activate):
            if step() != TransitionCallbackReturn.SUCCESS:
                if not self.context.ok():
                    return False  # Ctrl-C
                name = self.get_fully_qualified_name()
                self.get_logger().error(
                    f'not active: mend what the line above says, then: ros2 lifecycle set {name} '
                    'configure'
                )
                return False
        return True

    def close(self) -> None:
        """Stop the work and give everything back; nothing happens where that was done."""
        self._activated.close()
        self._configured.close()

    def _let_go(self) -> None:
        """Forget networks and state: an unconfigured node holds no memory worth a word."""
        del self._network, self._pipeline, self._outputs, self._metric, self._inputs
        give_back_freed()

    def _offer(self, taken: ExitStack) -> None:
        """Create what is there from configure to cleanup."""
        options = QoSOverridingOptions.with_default_policies()
        self._patient = Patient()
        self._topics = {}
        for topic, kind in PRIVATE_TOPICS.items():
            publisher = self.create_lifecycle_publisher(
                kind,
                f'~/{topic}',
                queue_depth(topic),
                callback_group=self._patient,
                qos_overriding_options=options,
            )
            taken.callback(self.destroy_lifecycle_publisher, publisher)
            self._topics[topic] = publisher
        self._tf = TfOut(self, self._values['tf.mode'], taken)
        # an ordinary publisher: it says what went wrong after the node deactivated itself, too
        self._diagnostics_topic = self.create_publisher(
            DiagnosticArray, '/diagnostics', STATE_DEPTH
        )
        taken.callback(self.destroy_publisher, self._diagnostics_topic)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        taken.callback(self.destroy_timer, self.create_timer(1.0, self._report, clock=steady))
        service = self.create_service(Trigger, '~/reset', self._on_reset)
        taken.callback(self.destroy_service, service)
        self._too_many_failures = self.create_guard_condition(self._on_too_many_failures)
        taken.callback(self.destroy_guard_condition, self._too_many_failures)

    def _listen(self, taken: ExitStack) -> None:
        """Open the input."""
        compressed = self._values['image_transport'] == 'compressed'
        kind, topic = (CompressedImage, 'image/compressed') if compressed else (Image, 'image')
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        options = QoSOverridingOptions.with_default_policies()
        self._input = self.create_subscription(
            kind, topic, self._on_image, qos, qos_overriding_options=options
        )
        taken.callback(self.destroy_subscription, self._input)
        self._silence = Silence(time.monotonic())
        self._kinematics = None
        if self._values['scale.source'] == 'kinematics':
            self._kinematics = KinematicsIn(self, self._values, self._refuse, taken)
        self._calibration_topic = ''
        if self._values['intrinsics.source'] == 'camera_info':
            subscription = self.create_subscription(
                CameraInfo, 'camera_info', self._on_camera_info, qos_profile_sensor_data
            )
            taken.callback(self.destroy_subscription, subscription)
            self._calibration_topic = subscription.topic_name

    def _stop_worker(self) -> None:
        self._mailbox.close()
        if self._worker:
            self._worker.join()
            self._worker = None

    # callbacks: they only enqueue

    def _on_image(self, message: Any, info: dict[str, Any]) -> None:
        self._patient.is_open = False  # until the next report
        self._silence.broken(time.monotonic())
        publishers = self.count_publishers(self._input.topic_name)
        self._arrivals.note(info.get('publication_sequence_number'), publishers)
        self._mailbox.put((message, time.perf_counter()))

    def _on_camera_info(self, message: CameraInfo) -> None:
        is_rectified = self._values['intrinsics.lens'] == 'straight'
        stamp = message.header.stamp
        try:
            calibration = calibration_from(message, is_rectified)
            self._calibrations.put(stamp.sec * 1_000_000_000 + stamp.nanosec, calibration)
        except ValueError as error:
            self._calibrations.refusal = str(error)
            self._refuse('camera_info', error)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._reset_wanted.set()
        response.success, response.message = True, 'a new epoch begins with the next picture'
        return response

    def _on_too_many_failures(self) -> None:
        if self._worker and self._failures >= MAX_FAILURES:  # nobody deactivated in the meantime
            name = self.get_fully_qualified_name()
            self.get_logger().fatal(
                f'{MAX_FAILURES} pictures in a row failed: deactivated; when the cause above is '
                f'mended: ros2 lifecycle set {name} activate'
            )
            self.trigger_deactivate()

    def _check_parameters(self, changes: list[RosParameter]) -> SetParametersResult:
        ours = {p.name: p.value for p in changes if p.name in parameters.DEFAULTS}
        try:
            parameters.checked(ours)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        fixed = ours.keys() - parameters.LIVE
        if fixed and self.state != 'unconfigured':
            names = ', '.join(sorted(fixed))
            reason = f'{names}: read at configure; deactivate, clean up, set it, configure again'
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _take_parameters(self, changes: list[RosParameter]) -> None:
        ours = {p.name: p.value for p in changes if p.name in parameters.LIVE}
        if ours and self.state in ('inactive', 'active'):
            self._values = {**self._values, **ours}
            self._changed.set()

    def _report(self) -> None:
        self._patient.is_open = True  # until the next picture
        is_active = self.state == 'active'  # else the inputs are closed
        if is_active and self._kinematics:
            self._kinematics.look()
        now_s = time.monotonic()
        if is_active and self._silence.is_worth_a_line(now_s):
            self._tell_why_silent(now_s)
        level, sentence, values = self._diagnostics.report(now_s)
        if not is_active and level != DiagnosticStatus.ERROR:
            return
        head = header(self.get_clock().now().nanoseconds, '')
        trouble = self._kinematics.trouble if is_active and self._kinematics else ''
        values['scale'] = '; '.join(filter(None, [self._metric.progress, trouble]))
        if level == DiagnosticStatus.OK and self._outputs.withheld:
            level = DiagnosticStatus.WARN
            sentence = f'no lengths are sent (require_metric); scale: {values["scale"]}'
        name = self.get_fully_qualified_name().removeprefix('/')
        message = diagnostic_message(values, head, name, level, sentence)
        self._diagnostics_topic.publish(message)

    def _tell_why_silent(self, now_s: float) -> None:
        topic = self._input.topic_name
        kind = 'CompressedImage' if self._input.msg_type is CompressedImage else 'Image'
        why = why_silent(
            topic,
            f'sensor_msgs/msg/{kind}',
            self._input.qos_profile,
            offers_on(self, topic),
            pictures_there(self),
        )
        said = f'nothing on {topic} for {self._silence.lasts_s(now_s):.0f} s; {why}'
        self._diagnostics.silent(said)
        self.get_logger().warning(said)

    # the worker: converts, steps, publishes

    def _work(self) -> None:
        while (item := self._mailbox.take()) is not None:
            try:
                self._reconstruct(*item)
                self._failures = 0
            except ValueError as error:
                self._refuse('picture', error)
            except Exception as error:  # noqa: BLE001  or the thread dies, and the node seems active
                if not self.context.ok():
                    return  # Ctrl-C came between two messages
                self._fail(error)
                if self._failures == MAX_FAILURES:
                    self._too_many_failures.trigger()  # a transition belongs to the executor
                    return

    def _reconstruct(self, message: Any, received_s: float) -> None:
        self._heed_wishes()
        frame = frame_from(message, self._values['camera_frame_id'])
        self._outputs.check_frame_id(frame.frame_id)
        frame, warning = self._inputs.take(frame)
        frame, calibration = self._calibrated(frame)
        said = self._pipeline.step(frame)
        self._metric.before(said)
        latency_ms = (time.perf_counter() - received_s) * 1e3
        mailbox = self._mailbox
        traffic = Traffic(latency_ms, mailbox.received, self._arrivals.lost, mailbox.dropped)
        for event in (*said.events, *filter(None, [warning])):
            if line := self._complaints.line(event, time.monotonic()):
                self.get_logger().warning(line)
        trouble = ''
        messages = self._outputs.messages(said, traffic, self._is_wanted, calibration)
        for topic, out in messages:
            if topic == '/tf':
                trouble = self._tf.send(out)
            else:
                self._topics[topic].publish(out)
        self._pipeline.settle()
        self._learn_scale(said)
        if trouble and (line := self._complaints.line(trouble, time.monotonic())):
            self.get_logger().error(line)
        self._diagnostics.frame(time.monotonic(), said, traffic, trouble)
        self._spare_for(frame.image.nbytes)

    def _calibrated(self, frame: Frame) -> tuple[Frame, Calibration | None]:
        """
        The frame as its calibration makes it, and that; the same and None where none is used.

        :raises ValueError: none came, with the reason; the offline pipeline can not know it.
        """
        calibration = self._calibrations.at(frame.stamp_ns)
        if calibration:
            return rectified(frame, calibration), calibration
        if not self._calibration_topic:
            return frame, None
        why = self._calibrations.refusal
        if not why:
            there = nothing_on(self, self._calibration_topic, 'sensor_msgs/msg/CameraInfo')
            why = f"{there}; remap camera_info to the driver's, or set intrinsics.source"
        raise ValueError(
            f"intrinsics.source is 'camera_info' and no calibration came with the picture: {why}"
        )

    def _spare_for(self, size: int) -> None:
        """Once a picture of so many bytes was answered, make room for some more of them."""
        if size > self._spare:
            self._spare = size
            reserve(size)

    def _heed_wishes(self) -> None:
        """What was asked for between two pictures begins with this one."""
        if self._changed.is_set():
            self._changed.clear()
            self._metric.change(self._values)
            self._inputs.change(self._values)
        if self._reset_wanted.is_set():
            self._reset_wanted.clear()
            self._pipeline.reset()

    def _learn_scale(self, said: Reconstruction) -> None:
        if self._kinematics:
            for stamp_ns, T_base_tip in self._kinematics.take(said.stamp_ns):
                self._metric.robot(stamp_ns, T_base_tip)
        self._metric.after(said)

    def _is_wanted(self, topic: str) -> bool:
        return bool(self._topics[topic].get_subscription_count())

    def _refuse(self, what: str, error: ValueError) -> None:
        """Note a message that can not be used: its sender has to be mended."""
        why = ' '.join(str(error).split())
        self._diagnostics.refused(what, why)
        if line := self._complaints.line(f'{what} refused: {why}', time.monotonic()):
            self.get_logger().error(line)

    def _fail(self, error: Exception) -> None:
        """Note a failure of the node's own and begin anew: what it left half done is not used."""
        self._failures += 1
        self._pipeline.reset('a picture failed')
        why = f'{type(error).__name__}: {" ".join(str(error).split())}'
        self._diagnostics.failed(why)
        if line := self._complaints.line(f'a picture failed: {why}', time.monotonic()):
            self.get_logger().error(f'{line}; a new epoch begins\n{format_exc()}')
