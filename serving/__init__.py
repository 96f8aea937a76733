"""Serve one release over HTTP, and keep named endpoints alive on one machine. Imports neither torch nor Airflow."""

from __future__ import annotations

import sys

# OpenVINO reports its use to its makers through this package, from a forked child; without it, a stub does nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
