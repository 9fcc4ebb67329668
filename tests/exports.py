"""torch's exporter, called once in a run for each network with its weights.

It takes seconds even for the least network, is not ours, and most tests that export are about what
comes before and after it. All that edgecar does with what it makes is done every time.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Put it in place once torch is there; most tests alone do without it."""
    torch = sys.modules.get("torch.onnx")
    if torch is not None and not isinstance(torch.export, OnceEach):
        torch.export = OnceEach(torch.export, shared_folder(item.config))


def shared_folder(config: pytest.Config) -> Path:
    """Return the folder that all processes of this run share; pytest removes it later."""
    base = Path(config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exports"
    folder.mkdir(exist_ok=True)
    return folder


class OnceEach:
    """Stands for `torch.onnx.export`.

    Args:
        export: The function itself.
        folder: Where graphs are kept.
    """

    def __init__(self, export: Any, folder: Path) -> None:
        self._export, self._folder = export, folder

    def __call__(self, network: Any, example: tuple[Any, ...], **options: Any) -> Any:
        import onnx

        key = hashlib.sha256(repr((options, [each.shape for each in example])).encode())
        for name, module in network.named_modules():
            own = {k: v for k, v in vars(module).items() if not k.startswith("_")}
            key.update(
                f"{name} {type(module).__qualname__} {module!r} {sorted(own)} {own}".encode()
            )
        for name, values in network.state_dict().items():
            key.update(name.encode() + values.numpy().tobytes())
        kept = self._folder / f"{key.hexdigest()}.onnx"
        if not kept.is_file():
            program = self._export(network, example, **options)
            if program is None:
                return None
            number, name = tempfile.mkstemp(dir=self._folder)
            with os.fdopen(number, "wb") as file:
                file.write(program.model_proto.SerializeToString())
            Path(name).replace(kept)  # at once: another process may be looking
        return SimpleNamespace(model_proto=onnx.load_model(kept))
