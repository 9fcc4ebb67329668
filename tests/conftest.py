"""Artifacts of small networks, exported once per run."""

import gc
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from edgecar import artifact as artifacts
from edgecar.artifact import Artifact, weights_stem
from edgecar.metadata import write_metadata
from edgecar.spec import Purpose, WeightsFor, coder_and_purpose
from tests.exports import pytest_runtest_setup
from tests.skips import pytest_sessionfinish, pytest_terminal_summary

# Hooks of pytest.
__all__ = ["pytest_runtest_setup", "pytest_sessionfinish", "pytest_terminal_summary"]


def pytest_configure() -> None:
    """Take SIGINT as a terminal gives it: a script ignores it in what it starts with "&"."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave out of every later collection of garbage what modules hold: it takes seconds in all."""
    gc.collect()
    gc.freeze()


# How long an example takes says nothing: machines are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

Exported = Callable[..., Artifact]


@pytest.fixture(scope="session")
def exported() -> Exported:
    """A function from a network's name to its artifact (seconds the first time)."""

    @cache
    def make(name: str, channels: int = 1) -> Artifact:
        # Loaded here: most tests need no torch, which takes seconds.
        from edgecar.exporter.recipe import recipe_for
        from edgecar.exporter.to_onnx import artifact_from_network
        from edgecar.zoo.checkpoints import Loaded
        from edgecar.zoo.registry import card_named
        from tests.networks import narrow

        loaded = Loaded(card_named(name), channels, narrow(name, channels))
        model, metadata = artifact_from_network(loaded, recipe_for(name), "f" * 64, "jpeg 10-40")
        return Artifact(metadata, model.SerializeToString())

    return make


@pytest.fixture(scope="session")
def told() -> Callable[[str], Artifact]:
    """A function from a degradation to the artifact of a network that takes the quantiser."""

    @cache
    def make(trained_on: str) -> Artifact:
        from edgecar.exporter.recipe import recipe_for
        from edgecar.exporter.to_onnx import artifact_from_network
        from edgecar.zoo.checkpoints import Loaded
        from edgecar.zoo.registry import card_named
        from tests.networks import told_network

        loaded = Loaded(card_named("edgecar-n"), 1, told_network())
        recipe = recipe_for("edgecar-n")
        model, metadata = artifact_from_network(loaded, recipe, "f" * 64, trained_on)
        assert metadata.takes_quantiser
        return Artifact(metadata, model.SerializeToString())

    return make


LOWER = ("fp16", "int8 openvino", "int8 tensorrt", "int8 onnxruntime")
"""Precisions, with the engine that eight bits are written down for."""
TENSORRT = tuple(kind for kind in LOWER if kind != "int8 onnxruntime")
"""Those that TensorRT reads."""


@pytest.fixture(scope="session")
def reduced(exported) -> Callable[[str, str], Artifact]:
    """A function from a network's name and one of `LOWER` to an artifact that nobody judged."""

    @cache
    def make(name: str, kind: str) -> Artifact:
        import onnx

        from edgecar.exporter.calibrate import equalised, ranges_of
        from edgecar.exporter.frames import generated_frames
        from edgecar.exporter.precision import fp16
        from edgecar.exporter.quantize import FORMS, always_kept, quantised

        metadata = exported(name).metadata
        model = onnx.load_model_from_string(exported(name).onnx)
        precision, _, engine = kind.partition(" ")
        if engine:
            frames = generated_frames("jpeg 10-40", 1, metadata.align_px)
            pictures = [
                seen._replace(codes=seen.codes[:, :112, :112]) for seen in frames.calibration[:2]
            ]
            form = FORMS[engine]
            alike = onnx.shape_inference.infer_shapes(equalised(model, pictures))
            ranges = ranges_of(alike, pictures, symmetric=form.signed)["min-max"]
            made = quantised(alike, ranges, always_kept(alike), form)
        else:
            made = fp16(model, ())
        metadata = replace(metadata, precision=precision, known_answer=None)
        write_metadata(made, metadata)
        return Artifact(metadata, made.SerializeToString())

    return make


@pytest.fixture
def write_artifact(exported) -> Callable[..., Path]:
    """A function that writes an artifact as if it was trained on something."""

    def write(
        path: Path, trained_on: str, purpose: Purpose = "view", name: str = "edgecar-xs"
    ) -> Path:
        import onnx

        artifact = exported(name)
        model = onnx.load_model_from_string(artifact.onnx)
        metadata = replace(artifact.metadata, trained_on=trained_on, purpose=purpose)
        write_metadata(model, metadata)
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture
def ship(tmp_path, monkeypatch, write_artifact) -> Callable[..., None]:
    """A function that ships a network for coders and purposes, in a folder in place of ours."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(artifacts, "WEIGHTS", folder)
    degradations = {"jpeg": "jpeg 10-40", "h264": "h264 crf 29-47", "hevc": "hevc qp 22-37"}

    def to(network: str, *made_for: WeightsFor) -> None:
        for each in made_for:
            coder, purpose = coder_and_purpose(each)
            path = folder / f"{weights_stem(network, each)}.onnx"
            write_artifact(path, degradations[coder], purpose)

    return to
