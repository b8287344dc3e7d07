"""Nothing is sent anywhere: libraries that report their use are told not to."""

from __future__ import annotations

import sys

__all__ = ["decline_telemetry"]


def decline_telemetry() -> None:
    """Keep OpenVINO and NNCF from sending usage statistics in this process.

    Both do without their telemetry package where it cannot be imported. A process that imported it before, by its own
    wish, is left as it is.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
