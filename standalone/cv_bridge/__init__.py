# SPDX-License-Identifier: Apache-2.0
"""Stand-in for cv_bridge on machines without a ROS 2 distribution: what we call, no more."""

from cv_bridge.core import CvBridge, CvBridgeError

__all__ = ['CvBridge', 'CvBridgeError']
