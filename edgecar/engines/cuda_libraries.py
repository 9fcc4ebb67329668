"""CUDA and cuDNN for ONNX Runtime, where pip installed them."""

import contextlib
import io
from types import ModuleType


def load_cuda_libraries(onnxruntime: ModuleType) -> None:
    """Load those of ``pip install 'onnxruntime-gpu[cuda,cudnn]'``; a system's own are found anyway.

    What is missing shows when a session falls back to another provider.
    """
    preload = getattr(onnxruntime, "preload_dlls", None)  # since 1.21
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            preload()
