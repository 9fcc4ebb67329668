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
from edgecar.exporter.frames import JUDGED_ON, GateFrames, generated_frames
from edgecar.exporter.inspection import layer_types
from edgecar.exporter.lower import Lowering, Search, best_candidate, lowered_artifact
from edgecar.exporter.quality import Budget, Verdict
from edgecar.exporter.quantize import always_kept, share_of_work
from edgecar.exporter.recipe import recipe_for
from edgecar.metadata import read_metadata

real_ranges = lower.ranges_of


@pytest.fixture(scope="module")
def trained():
    """The graph and metadata of real weights: what random ones lose says nothing."""
    return graph_of("edgecar-s")


def graph_of(name: str):
    artifact = read_artifact(find_artifact(name, "jpeg"))
    model = onnx.load_model_from_string(artifact.onnx)
    return onnx.shape_inference.infer_shapes(model), artifact.metadata


def made(network, precision="int8", **changes):
    """As an export of this network makes it: two of its inner layers may have to stay."""
    recipe = recipe_for(network[1].model)
    settings = {key: changes.pop(key) for key in ("channel_outliers",) if key in changes}
    return lowered_artifact(*network, Lowering(precision, **changes), replace(recipe, **settings))


def test_int8_passes_and_tells_how(trained) -> None:
    model, metadata = made(trained)
    quality = metadata.quality
    assert read_metadata(model) == metadata
    stated = replace(trained[1], precision="int8", quality=quality)
    assert replace(metadata, known_answer=trained[1].known_answer) == stated
    assert quality.loss_db <= 0.05
    assert quality.worst_db <= 0.15
    assert quality.shift_codes <= 0.1
    assert quality.method in METHODS
    assert quality.layers == 6
    assert set(always_kept(trained[0])) <= set(quality.kept)
    assert quality.pictures == len(JUDGED_ON)
    assert quality.data_sha256 == generated_frames(metadata.trained_on, 1, 2).sha256
    layers = layer_types(model)
    assert {name for name, kind in layers.items() if kind != "int8"} == set(quality.kept)


def test_fp16_keeps_only_what_overflows(trained) -> None:
    model, metadata = made(trained, "fp16")
    assert metadata.precision == "fp16"
    assert metadata.quality.kept == ()
    assert metadata.quality.worst_db < 0.01
    assert set(layer_types(model).values()) == {"fp16"}
    # The same function in FP32, whose features do not fit into 65504.
    model = onnx.ModelProto()
    model.CopyFrom(trained[0])
    _, second, third, *_ = (node for node in model.graph.node if node.op_type == "Conv")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, factor in ((second.input[1], 1e6), (second.input[2], 1e6), (third.input[1], 1e-6)):
        values = onnx.numpy_helper.to_array(constants[name]) * np.float32(factor)
        constants[name].CopyFrom(onnx.numpy_helper.from_array(values, name))
    kept = made((model, trained[1]), "fp16")[1].quality.kept
    assert kept == (second.name, third.name)


@pytest.mark.slow  # many graphs are judged
@pytest.mark.parametrize(("name", "budget_db"), [("edgecar-xs", 0.015), ("fastarcnn", None)])
def test_more_layers_are_kept_where_less_may_be_lost(name, budget_db) -> None:
    network = graph_of(name)
    model, metadata = made(network, budget_db=budget_db)
    assert len(metadata.quality.kept) > len(always_kept(network[0]))
    in_int8 = [layer for layer, kind in layer_types(model).items() if kind == "int8"]
    assert share_of_work(network[0], in_int8) >= recipe_for(name).int8_least_share
    kept = made(network, budget_db=1)[1].quality.kept
    assert len(kept) == len(always_kept(network[0]))


# The gate refuses: three ways in which INT8 goes wrong.


def scaled(factors):
    """Ranges as they are found, each then multiplied by what a function gives."""

    def ranges(*arguments, **options):
        found = real_ranges(*arguments, **options)
        return {
            method: {
                name: tuple(end * factor for end in ends)
                for name, ends in by_name.items()
                for factor in [factors()]
            }
            for method, by_name in found.items()
        }

    return ranges


@pytest.mark.slow  # many graphs are judged
def test_noise_costs_layers_and_wrong_ranges_are_refused(trained, monkeypatch, tmp_path) -> None:
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (100, 100), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), noise)
    from_noise = made(trained, calibrate=tmp_path)[1].quality.kept
    assert len(from_noise) > len(made(trained)[1].quality.kept)  # its ranges suit fewer layers
    dice = np.random.default_rng(1)
    monkeypatch.setattr(lower, "ranges_of", scaled(lambda: float(2.0 ** dice.choice([-3, 3]))))
    with pytest.raises(
        GateError, match=r"edgecar-s in int8 .* nothing written: .* --precision fp16"
    ):
        made(trained)
    monkeypatch.setattr(lower, "ranges_of", scaled(lambda: 0.1))  # saturated
    with pytest.raises(GateError, match=r"loses \d.\d+ dB on average \(allowed 0.05\)"):
        made(trained, budget_db=0.05)


@pytest.mark.slow
def test_refusal_names_a_budget_that_passes(trained, monkeypatch) -> None:
    alone = lambda *a, **k: {"min-max": real_ranges(*a, **k)["min-max"]}  # noqa: E731
    monkeypatch.setattr(lower, "ranges_of", alone)
    with pytest.raises(GateError) as refused:
        made(trained, budget_db=0.001, channel_outliers=0.0)  # min-max has them in its ranges
    named = float(str(refused.value).partition("--budget-db ")[2].partition(",")[0])
    made(trained, budget_db=named, channel_outliers=0.0)


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
    monkeypatch.setattr(lower, "generated_frames", lambda *_: GateFrames([], [], "none"))
    if passes:
        assert made(trained, "fp16", budget_db=0.05)[1].quality.loss_db == lost.loss_db
    else:
        with pytest.raises(GateError, match="nothing written"):
            made(trained, "fp16", budget_db=0.05)


# The search for layers to keep, on verdicts that are made up: a graph is a list of what is lost.


def found(losses, judge=None, *, budget, always=(), may_keep=lambda _: True):
    """The candidate of ways in which every layer that is reduced loses so much."""

    def sum_of(lost) -> Verdict:
        return Verdict(sum(lost.values()), sum(lost.values()), 0.0)

    ways = {
        way: lambda keep, each=each: {name: db for name, db in each.items() if name not in keep}
        for way, each in losses.items()
    }
    search = Search(ways, list(next(iter(losses.values()))), always, may_keep)
    judge = judge or sum_of
    limit = Budget(budget, budget)
    return best_candidate(search, judge, lambda each: judge(each).loss_db, limit, lambda _: None)


LOSSES = {"by hand": {"a": 1.0, "b": 5.0, "c": 0.0, "d": 3.0, "e": 0.5}}


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (9.5, ""),
        (9.4, "b"),
        (4.5, "b"),
        (4.4, "bd"),
        (1.4, "abd"),
        (0.4, "abde"),
    ],
)
def test_fewest_layers_are_kept_and_in_order(budget, kept) -> None:
    candidate = found(LOSSES, budget=budget)
    assert candidate.kept == tuple(kept)
    assert candidate.verdict.loss_db <= budget


def test_some_are_kept_always_and_no_more_than_leave_enough() -> None:
    assert found(LOSSES, budget=9.4, always=("c",)).kept == ("b", "c")
    candidate = found(LOSSES, budget=1.4, may_keep=lambda keep: len(keep) <= 2)
    assert candidate.kept == ("b", "d")  # what came nearest
    assert candidate.verdict.loss_db > 1.4
    # A layer that does too much to be kept does not keep others from it.
    assert found(LOSSES, budget=5.6, may_keep=lambda keep: "b" not in keep).kept == ("a", "d")


def test_way_that_loses_more_may_pass_with_one_layer_kept() -> None:
    """The way that seemed best loses a little by every layer, and may keep only two of five."""
    ways = {
        "evenly": {"a": 1.5, "b": 1.6, "c": 1.5, "d": 1.5, "e": 1.5},
        "by one": {"a": 0.0, "b": 9.0, "c": 0.0, "d": 0.0, "e": 0.0},
    }
    candidate = found(ways, budget=1, may_keep=lambda keep: len(keep) <= 2)
    assert (candidate.method, candidate.kept) == ("by one", ("b",))
    assert found(ways, budget=20).method == "evenly"  # the best of those that pass


def test_of_few_layers_the_best_set_is_found() -> None:
    """Here those that lose most alone, a and b, are not the two to keep."""

    def entangled(lost) -> Verdict:
        loss = sum(lost.values()) + (2.0 if {"c", "d"} <= lost.keys() else 0.0)
        return Verdict(loss, 0.0, 0.0)

    losses = {"by hand": {"a": 1.0, "b": 0.9, "c": 0.5, "d": 0.1}}
    assert found(losses, entangled, budget=1.2).kept == ("a", "c")
