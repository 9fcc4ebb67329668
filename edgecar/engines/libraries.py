"""The one place where ONNX Runtime and OpenVINO are imported, without their telemetry.

Both report their import over the network and leave files in the home folder unless told not to
before they are imported. A program that imports one of them before edgecar does decides for itself.
"""

import importlib
import os
import platform
import sys
import threading
from typing import Any

KERNELS, KERNELS_KEPT = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64"
"""oneDNN keeps 1024 kernels of graphs that are gone unless told otherwise."""

ONNXRUNTIME_SILENCE = "ORT_DISABLE_TELEMETRY"
"""Read by ONNX Runtime while it is imported; its ``disable_telemetry_events()`` comes too late."""

BUILD_SERVER = "TF_BUILD"
"""Marks a build server, on which OpenVINO asks its telemetry package to stay silent."""

_importing = threading.Lock()


def is_x86() -> bool:
    """Return True on CPUs that OpenVINO is fastest on, and that have no kernels for halves."""
    return platform.machine().lower() in ("x86_64", "amd64")


def imported_onnxruntime(submodule: str = "") -> Any:
    """Return ONNX Runtime, or one of its submodules, with telemetry off.

    Since version 1.29 its import writes files to the home folder and looks up a server. The only
    documented way to prevent that is an environment variable, so it is set for this process and
    its children unless the caller has set it to something else.

    Raises:
        ImportError: It is not installed.
    """
    os.environ.setdefault(ONNXRUNTIME_SILENCE, "1")
    return importlib.import_module(f"onnxruntime.{submodule}" if submodule else "onnxruntime")


def imported_openvino() -> Any:
    """Return OpenVINO with telemetry off and few kernels kept.

    Raises:
        ImportError: It is not installed.
    """
    with _importing:
        if "openvino" not in sys.modules:
            os.environ.setdefault(KERNELS, KERNELS_KEPT)
            before = os.environ.get(BUILD_SERVER)
            os.environ[BUILD_SERVER] = before or "1"  # during the import only
            try:
                importlib.import_module("openvino.opset13")
            finally:
                if before is None:
                    del os.environ[BUILD_SERVER]
                else:
                    os.environ[BUILD_SERVER] = before
    return importlib.import_module("openvino")
