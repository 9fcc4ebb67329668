"""Lower precisions: the best of several that passes, or none and what would."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest

from edgecar.artifact import find_artifact, read_artifact
from edgecar.errors import GateError
from edgecar.exporter import lower
from edgecar.exporter.calibrate import METHODS
from edgecar.exporter.frames import GateFrames, generated_frames, own_frames
from edgecar.exporter.inspection import layer_types
from edgecar.exporter.lower import Search, best_candidate, reduced
from edgecar.exporter.quality import Budget, Verdict
from edgecar.exporter.quantize import FORMS, always_kept, share_of_work
from edgecar.exporter.recipe import recipe_for
from edgecar.metadata import read_metadata

BUDGET = Budget(0.05, 0.15)
real_ranges = lower.ranges_of


@pytest.fixture(scope="module")
def trained():
    """The graph and metadata of real weights: what random ones lose says nothing."""
    artifact = read_artifact(find_artifact("edgecar-s", "jpeg"))
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(artifact.onnx))
    return model, artifact.metadata


@pytest.fixture(scope="module")
def frames() -> GateFrames:
    return generated_frames("jpeg 10-40", 1, 2)


def made(trained, frames, precision="int8", engine="openvino", budget=BUDGET, outliers=None):
    """As an export of this network makes it: two of its inner layers may have to stay."""
    recipe = recipe_for("edgecar-s")
    return reduced(
        *trained,
        precision,
        FORMS[engine],
        frames=frames,
        budget=budget,
        least_share=recipe.int8_least_share,
        channel_outliers=recipe.channel_outliers if outliers is None else outliers,
    )


def scaled(factors):
    """Ranges as they are found, each then multiplied by what a function gives."""

    def ranges(*arguments, **options):
        return {
            method: {
                name: (low * f, high * f)
                for name, (low, high) in found.items()
                for f in [factors()]
            }
            for method, found in real_ranges(*arguments, **options).items()
        }

    return ranges


def test_int8_passes_and_tells_how(trained, frames) -> None:
    model, metadata = made(trained, frames)
    quality = metadata.quality
    assert metadata == replace(trained[1], precision="int8", quality=quality)
    assert read_metadata(model) == metadata
    assert quality.loss_db <= 0.05
    assert quality.worst_db <= 0.15
    assert quality.shift_codes <= 0.1
    assert quality.method in METHODS
    assert quality.layers == 6
    assert set(always_kept(trained[0])) <= set(quality.kept)
    assert quality.pictures == len(frames.held)
    assert quality.data_sha256 == frames.sha256
    layers = layer_types(model)
    assert {name for name, kind in layers.items() if kind != "int8"} == set(quality.kept)


def test_fp16_passes_with_nothing_kept(trained, frames) -> None:
    model, metadata = made(trained, frames, "fp16")
    assert metadata.precision == "fp16"
    assert metadata.quality.kept == ()
    assert metadata.quality.worst_db < 0.01
    assert set(layer_types(model).values()) == {"fp16"}


@pytest.mark.slow  # many graphs are judged
def test_more_layers_are_kept_where_less_may_be_lost(trained, frames) -> None:
    kept = [
        len(made(trained, frames, budget=Budget(db, 3 * db))[1].quality.kept) for db in (0.05, 1)
    ]
    assert kept[1] == len(always_kept(trained[0])) < kept[0]


# The gate refuses: three ways in which INT8 goes wrong.


@pytest.mark.slow  # many graphs are judged
def test_wrong_scales_are_refused(trained, frames, monkeypatch) -> None:
    dice = np.random.default_rng(1)
    monkeypatch.setattr(lower, "ranges_of", scaled(lambda: float(2.0 ** dice.choice([-3, 3]))))
    with pytest.raises(GateError, match=r"edgecar-s in int8 .* nothing written: the nearest"):
        made(trained, frames)


@pytest.mark.slow  # many graphs are judged
def test_calibration_on_noise_is_refused(trained, tmp_path) -> None:
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (100, 100), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), noise)
    with pytest.raises(GateError, match=r"nothing written: .* --precision fp16"):
        made(trained, own_frames(tmp_path, "jpeg 10-40", 1, 2))


@pytest.mark.slow  # many graphs are judged
def test_saturated_range_is_refused(trained, frames, monkeypatch) -> None:
    monkeypatch.setattr(lower, "ranges_of", scaled(lambda: 0.1))
    with pytest.raises(GateError, match=r"loses \d.\d+ dB on average \(allowed 0.05\)"):
        made(trained, frames)


@pytest.mark.slow
def test_refusal_names_a_budget_that_passes(trained, frames, monkeypatch) -> None:
    real = lower.ranges_of
    alone = lambda *a, **k: {"min-max": real(*a, **k)["min-max"]}  # noqa: E731
    monkeypatch.setattr(lower, "ranges_of", alone)
    tight = Budget(0.001, 0.003)
    with pytest.raises(GateError) as refused:
        made(trained, frames, budget=tight, outliers=0.0)  # min-max has them in its ranges
    named = float(str(refused.value).partition("--budget-db ")[2].partition(",")[0])
    made(trained, frames, budget=Budget(named, 3 * named), outliers=0.0)


def test_layer_that_overflows_half_precision_stays_in_float32(trained, frames) -> None:
    """The same function in FP32, whose features do not fit into 65504."""
    model = onnx.ModelProto()
    model.CopyFrom(trained[0])
    first, second = (node for node in list(model.graph.node)[:3] if node.op_type == "Conv")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, factor in ((first.input[1], 1e6), (first.input[2], 1e6), (second.input[1], 1e-6)):
        values = onnx.numpy_helper.to_array(constants[name]) * np.float32(factor)
        constants[name].CopyFrom(onnx.numpy_helper.from_array(values, name))
    metadata = trained[1]
    _, kept = reduced(
        model, metadata, "fp16", FORMS["openvino"], frames=frames, budget=BUDGET, least_share=0.5
    )
    assert kept.quality.kept == (first.name, second.name)


# The search for layers to keep, on verdicts that are made up.


def verdict_of(losses):
    """A judge for whom every layer that is reduced loses so much."""

    def judge(lowered):
        loss = sum(losses[name] for name in lowered)
        return Verdict(loss, loss, 0.0)

    return judge


def by_hand(losses, always=(), most=99) -> Search:
    layers = list(losses)

    def lower(keep):
        return [name for name in layers if name not in keep]

    return Search({"by hand": lower}, layers, always, lambda keep: len(keep) <= most)


def found(search, judge, budget: float):
    def sensitivity(lowered):
        return judge(lowered).loss_db

    return best_candidate(search, judge, sensitivity, Budget(budget, budget), lambda _what: None)


LOSSES = {"a": 1.0, "b": 5.0, "c": 0.0, "d": 3.0, "e": 0.5}


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (9.5, ()),
        (9.4, ("b",)),
        (4.5, ("b",)),
        (4.4, ("b", "d")),
        (1.4, ("a", "b", "d")),
        (0.4, ("a", "b", "d", "e")),
    ],
)
def test_fewest_layers_are_kept_and_in_order(budget, kept) -> None:
    candidate = found(by_hand(LOSSES), verdict_of(LOSSES), budget)
    assert candidate.kept == kept
    assert candidate.verdict.loss_db <= budget


def test_some_are_kept_always() -> None:
    assert found(by_hand(LOSSES, ("c",)), verdict_of(LOSSES), 9.4).kept == ("b", "c")


def test_no_more_are_kept_than_leave_enough() -> None:
    candidate = found(by_hand(LOSSES, most=2), verdict_of(LOSSES), 1.4)
    assert candidate.kept == ("b", "d")  # what came nearest
    assert candidate.verdict.loss_db > 1.4


def test_layer_that_does_too_much_to_be_kept_does_not_keep_others_from_it() -> None:
    search = replace(by_hand(LOSSES), may_keep=lambda keep: "b" not in keep)
    assert found(search, verdict_of(LOSSES), 5.6).kept == ("a", "d")


def test_way_that_loses_more_may_pass_with_one_layer_kept() -> None:
    """The way that seemed best loses a little by every layer, and may keep only two of five."""
    ways = {
        "evenly": {"a": 1.5, "b": 1.6, "c": 1.5, "d": 1.5, "e": 1.5},
        "by one": {"a": 0.0, "b": 9.0, "c": 0.0, "d": 0.0, "e": 0.0},
    }
    losses = {(way, name): db for way, each in ways.items() for name, db in each.items()}
    lower = {
        way: lambda keep, way=way: [(way, name) for name in "abcde" if name not in keep]
        for way in ways
    }
    search = Search(lower, list("abcde"), (), lambda keep: len(keep) <= 2)
    candidate = found(search, verdict_of(losses), 1)
    assert (candidate.method, candidate.kept) == ("by one", ("b",))
    assert found(search, verdict_of(losses), 20).method == "evenly"  # the best of those that pass


def test_of_few_layers_the_best_set_is_found() -> None:
    """Here those that lose most alone, a and b, are not the two to keep."""
    losses = {"a": 1.0, "b": 0.9, "c": 0.5, "d": 0.1}

    def entangled(lowered):
        besides = 2.0 if {"c", "d"} <= set(lowered) else 0.0
        return Verdict(besides + verdict_of(losses)(lowered).loss_db, 0.0, 0.0)

    assert found(by_hand(losses), entangled, 1.2).kept == ("a", "c")


@pytest.mark.slow  # many graphs are judged
@pytest.mark.parametrize("name", ["edgecar-xs", "fastarcnn"])
def test_networks_that_pass_only_with_inner_layers_kept(name, frames) -> None:
    artifact = read_artifact(find_artifact(name, "jpeg"))
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(artifact.onnx))
    share = recipe_for(name).int8_least_share
    form = FORMS["openvino"]
    made, metadata = reduced(
        model, artifact.metadata, "int8", form, frames=frames, budget=BUDGET, least_share=share
    )
    kept = metadata.quality.kept
    assert len(kept) > len(always_kept(model))
    types = layer_types(made)
    assert share_of_work(model, [n for n, kind in types.items() if kind == "int8"]) >= share


@pytest.mark.parametrize(
    ("lost", "passes"),
    [
        (Verdict(0.05, 0.15, 0.1), True),  # all that is allowed
        (Verdict(0.051, 0.0, 0.0), False),
        (Verdict(0.0, 0.151, 0.0), False),
        (Verdict(0.0, 0.0, 0.101), False),
        (Verdict(-1.0, -1.0, 0.0), True),
        (Verdict(float("nan"), 0.0, 0.0), False),
    ],
)
def test_what_is_above_what_is_allowed_is_refused(lost, passes, trained, monkeypatch) -> None:
    """By however little, on average, on one picture or in the mean of one."""
    best = lower.Candidate("", (), onnx.ModelProto.FromString(trained[0].SerializeToString()), lost)
    monkeypatch.setattr(lower, "Judge", lambda *_: SimpleNamespace(verdict=None))
    monkeypatch.setattr(lower, "best_candidate", lambda *_: best)
    frames = GateFrames([], [], "none")
    if passes:
        assert made(trained, frames, "fp16")[1].quality.loss_db == lost.loss_db
    else:
        with pytest.raises(GateError, match="nothing written"):
            made(trained, frames, "fp16")
