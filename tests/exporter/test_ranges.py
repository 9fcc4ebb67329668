"""Ranges of activations, and that they are never another network's."""

import numpy as np
import pytest

from edgecar.exporter import ranges as ranges_module
from edgecar.exporter.ranges import METHODS, ranges_of
from tests.exporter.graphs import INPUT, Drawing


def network(bias: float = 0.0):
    d = Drawing()
    shifted = d.node("Add", INPUT, d.constant(np.full((1, 1, 1, 1), bias, np.float32)))
    return d.model(d.conv(d.node("Relu", shifted), (1, 1)))


def pictures(top: int = 100) -> list[np.ndarray]:
    """Mostly dark ones with a bright pixel each."""
    dark = np.random.default_rng(0).integers(0, 40, (2, 1, 64, 64)).astype(np.uint8)
    dark[:, 0, 5, 5] = top
    return list(dark)


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Methods that were really run."""
    made, run = [], ranges_module._calibrated

    def counted(model, frames, method, symmetric):
        made.append(method)
        return run(model, frames, method, symmetric)

    monkeypatch.setattr(ranges_module, "_calibrated", counted)
    return made


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_range_of_what_a_convolution_reads(method, symmetric, tmp_path) -> None:
    found = ranges_of(network(), pictures(), method, symmetric=symmetric, folder=tmp_path)
    low, high = found["value1"]
    assert low == (-high if symmetric else pytest.approx(0, abs=1e-3))
    if method == "min-max":
        assert high == pytest.approx(100 / 255, rel=1e-6)
    else:
        assert 20 / 255 < high <= 101 / 255


def test_percentile_leaves_single_pixels_out(tmp_path) -> None:
    widest, narrower = (
        ranges_of(network(), pictures(), method, symmetric=True, folder=tmp_path)["value1"][1]
        for method in ("min-max", "percentile 99.9")
    )
    assert narrower < 0.6 * widest  # 1 of 4096 pixels is bright


def test_found_once_and_read_after(tmp_path, calls) -> None:
    first, second = (
        ranges_of(network(), pictures(), "min-max", symmetric=True, folder=tmp_path)
        for _ in range(2)
    )
    assert first == second
    assert calls == ["min-max"]


@pytest.mark.parametrize("other", ["network", "pictures", "method", "symmetry"])
def test_never_used_for_another(other, tmp_path, calls) -> None:
    ranges_of(network(), pictures(), "min-max", symmetric=True, folder=tmp_path)
    ranges_of(
        network(0.5 if other == "network" else 0.0),
        pictures(101 if other == "pictures" else 100),
        "entropy" if other == "method" else "min-max",
        symmetric=other != "symmetry",
        folder=tmp_path,
    )
    assert len(calls) == 2


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"key": {}, "ranges": {}}', None])
def test_damaged_file_is_found_again(damage, tmp_path, calls) -> None:
    first = ranges_of(network(), pictures(), "min-max", symmetric=True, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text()[:-20] if damage is None else damage)
    assert ranges_of(network(), pictures(), "min-max", symmetric=True, folder=tmp_path) == first
    assert len(calls) == 2


def test_library_is_quiet(tmp_path, capfd) -> None:
    for method in METHODS:
        ranges_of(network(), pictures(), method, symmetric=True, folder=tmp_path)
    assert capfd.readouterr().out == ""
