"""The training loop: it learns, and it goes on exactly where it was stopped."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from edgecar.errors import DataError, SettingsError
from edgecar.train import fit as fit_module
from edgecar.train import loop
from edgecar.train.degrade import H264Range, JpegPairs, JpegRange, Pair
from edgecar.train.fit import (
    Progress,
    device_named,
    fit,
    half_precision,
    new_run,
    validation_gains_db,
)
from edgecar.train.loop import Optimiser, Run
from edgecar.train.recipe import TrainRecipe

CPU = torch.device("cpu")
STEPS = 12
XS = TrainRecipe("edgecar-xs", steps=STEPS, batch=2, patch_px=16, warmup=4)
RECIPES = {
    "edgecar-xs, muon": XS,
    "narrow dncnn, muon": replace(XS, network="dncnn", sizes={"width": 8}),
    "from weights without knots": replace(XS, start="jpeg", balanced=True, lossless=0.2),
    "balanced, from fresh weights": replace(XS, balanced=True),
    "edgecar-xs, adam": replace(XS, optimiser="adam", rate=1e-3),
    "fitted last layer, with a teacher": replace(XS, fit_last_layer=True, teacher="edgecar-s"),
}


class CrashError(Exception):
    """The power fails."""


@pytest.fixture
def source(photos) -> JpegPairs:
    return JpegPairs([photo[:40, :56] for photo in photos], JpegRange())


@pytest.fixture
def every_step(monkeypatch) -> None:
    """Progress is reported and states are kept at every step."""
    monkeypatch.setattr(loop, "REPORT_SECONDS", -1.0)


def trained(
    recipe: TrainRecipe,
    source: JpegPairs,
    path: Path,
    report: Callable[[Progress], None] = lambda _now: None,
) -> Run:
    run = new_run(recipe, CPU)
    pair = source.pair(np.random.default_rng(0))
    fit(run, source, {"q10": [pair]}, path, report, save_seconds=-1.0)
    return run


def restored(recipe: TrainRecipe, path: Path) -> Run:
    run = new_run(recipe, CPU)
    run.restore(path)
    return run


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_run_goes_on_exactly(recipe, source, tmp_path) -> None:
    def fail_at_five(now: Progress) -> None:
        if now.step == 5:
            raise CrashError

    whole = trained(recipe, source, tmp_path / "whole.pt")
    with pytest.raises(CrashError):
        trained(recipe, source, tmp_path / "broken.pt", fail_at_five)
    resumed = restored(recipe, tmp_path / "broken.pt")
    assert resumed.step == 5
    with pytest.raises(AssertionError):
        assert_equal(resumed.average, whole.average)
    fit(resumed, source, {}, tmp_path / "broken.pt", lambda _now: None)
    assert resumed.step == whole.step == STEPS
    assert_equal(resumed.network, whole.network)
    assert_equal(resumed.average, whole.average)
    # And so it is on disk.
    assert_equal(restored(recipe, tmp_path / "broken.pt").average, whole.average)


@pytest.mark.usefixtures("every_step")
def test_loss_falls_on_an_easy_task(tmp_path) -> None:
    class Brighter:
        """The coded picture is 10 codes too bright, everywhere."""

        def pair(self, rng: np.random.Generator) -> Pair:
            clean = rng.integers(40, 200, (32, 32), np.uint8)
            return Pair(clean + np.uint8(10), clean)

    told: list[Progress] = []
    recipe = replace(XS, steps=60, rest_rate=0.01)
    run = new_run(recipe, CPU)
    held_out = {"q10": [Brighter().pair(np.random.default_rng(1))]}
    fit(run, Brighter(), held_out, tmp_path / "state.pt", told.append, save_seconds=-1.0)
    assert [now.step for now in told] == list(range(1, 61))
    losses = [now.loss for now in told]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 4
    assert told[0].mse_db == pytest.approx(-10 * np.log10(losses[0]))  # the loss is the MSE
    assert told[-1].mse_db > told[0].mse_db + 6
    assert told[-1].gains_db["q10"] > 3
    assert told[-1].gains_db == validation_gains_db(run, held_out)
    assert all(before.seconds <= after.seconds for before, after in pairwise(told))


def test_it_stops_when_its_time_is_up(source, tmp_path, monkeypatch) -> None:
    clock = count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    run = new_run(XS, CPU)
    fit(run, source, {}, tmp_path / "state.pt", lambda _now: None, stop_after_seconds=20.0)
    assert 0 < run.step < STEPS  # each step looks at the clock four times
    assert restored(XS, tmp_path / "state.pt").step == run.step
    seconds, steps = run.seconds, run.step
    fit(run, source, {}, tmp_path / "state.pt", lambda _now: None)
    assert run.step == STEPS
    # Of all its parts; a step looks at the clock at least three times.
    assert run.seconds >= seconds + 3 * (STEPS - steps)


def test_last_layer_is_fitted_once(source, tmp_path, monkeypatch) -> None:
    fitted = []
    monkeypatch.setattr(fit_module, "fit_last_layer", lambda *given: fitted.append(given))
    recipe = replace(XS, fit_last_layer=True, steps=3)
    run = trained(recipe, source, tmp_path / "state.pt")
    ((network, coded, clean),) = fitted
    assert network is run.network
    assert coded.shape == clean.shape == (2, 1, 16, 16)
    assert 0 < (coded - clean).abs().mean() < 0.2  # the first batch, in [0, 1]
    for other in (replace(recipe, start="jpeg"), replace(recipe, fit_last_layer=False)):
        trained(other, source, tmp_path / "other.pt")
    assert len(fitted) == 1  # weights from elsewhere are good already


def test_balanced_training_makes_all_pictures_weigh_the_same(tmp_path) -> None:
    """A constant shift is learned from two kinds of pictures that ask for opposite ones."""
    clean = np.full((16, 16), 100, np.uint8)
    coarse, fine = Pair(clean + np.uint8(20), clean), Pair(clean - np.uint8(2), clean)

    class Both:
        def pair(self, rng: np.random.Generator) -> Pair:
            return coarse if rng.integers(2) else fine

    def shift(balanced: bool) -> float:
        # Fresh weights would come to it slowly.
        recipe = replace(XS, balanced=balanced, start="jpeg", steps=1, batch=64)
        run = new_run(recipe, CPU)
        run.network = nn.Sequential(nn.Conv2d(1, 1, 1))
        with torch.no_grad():
            run.network[0].weight.fill_(1)
            run.network[0].bias.fill_(0)
        run.average = run.network
        run.optimiser.step = lambda *_: None  # the gradient is what is looked at
        fit(run, Both(), {}, tmp_path / "state.pt", lambda _now: None)
        return float(run.network[0].bias.grad)

    # Unbalanced, the coarse pictures decide: lower. Balanced, an error of 2 counts ten times one
    # of 20 (its square a hundred times, its slope a tenth): higher.
    assert shift(False) > 0 > shift(True)


def test_harm_weighs_more_than_gain_of_the_same_size(tmp_path) -> None:
    """A constant shift gains on one kind of picture and harms the other, by the same."""
    clean = np.full((16, 16), 100, np.uint8)
    darker, brighter = Pair(clean - np.uint8(9), clean), Pair(clean + np.uint8(9), clean)

    class Both:
        def pair(self, rng: np.random.Generator) -> Pair:
            return darker if rng.integers(2) else brighter

    def loss(harm: float, shift_codes: float) -> float:
        run = new_run(replace(XS, harm=harm, start="jpeg", steps=1, batch=64), CPU)
        run.network = nn.Sequential(nn.Conv2d(1, 1, 1))
        with torch.no_grad():
            run.network[0].weight.fill_(1)
            run.network[0].bias.fill_(shift_codes / 255)
        run.average = run.network
        losses = []
        run.descend = lambda loss, *_: losses.append(float(loss)) or setattr(run, "step", 1)
        fit(run, Both(), {}, tmp_path / "state.pt", lambda _now: None)
        return losses[0]

    assert loss(4, 0) == pytest.approx(loss(0, 0))  # nothing is worse than it was
    assert loss(4, 3) > 2 * loss(0, 3) > 2 * loss(0, 0)


def test_average_lags_behind(source, tmp_path) -> None:
    run = trained(replace(XS, average=0.9), source, tmp_path / "state.pt")
    follower = trained(replace(XS, average=0.0), source, tmp_path / "follower.pt")
    assert_equal(follower.average, follower.network)
    assert_equal(follower.network, run.network)  # averaging does not change training
    with pytest.raises(AssertionError):
        assert_equal(run.average, run.network)
    assert not run.average.training


def damaged(path: Path, how: str) -> None:
    if how == "cut short":
        path.write_bytes(path.read_bytes()[:-1000])
    elif how == "text":
        path.write_text("not a state")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "other tensors":
        torch.save({"weight": torch.zeros(3)}, path)
    elif how == "a list":
        torch.save([1, 2], path)


@pytest.mark.parametrize("how", ["cut short", "text", "empty", "other tensors", "a list"])
def test_a_damaged_state_is_one_clear_line(how, source, tmp_path) -> None:
    path = tmp_path / "state.pt"
    trained(replace(XS, steps=1), source, path)
    damaged(path, how)
    with pytest.raises(DataError, match=r"state\.pt is damaged or no training state") as caught:
        restored(replace(XS, steps=1), path)
    assert "\n" not in str(caught.value)
    assert "delete it to start again" in str(caught.value)


def test_a_state_runs_no_code(tmp_path) -> None:
    torch.save({"recipe": pytest.raises}, tmp_path / "state.pt")
    with pytest.raises(DataError, match="no training state"):
        restored(XS, tmp_path / "state.pt")


def test_a_state_from_before_a_setting_was_known_goes_on(source, tmp_path) -> None:
    recipe, path = replace(XS, steps=1), tmp_path / "state.pt"
    trained(recipe, source, path)
    state = torch.load(path, weights_only=True)
    assert state["recipe"].pop("qat") is False
    torch.save(state, path)
    assert restored(recipe, path).step == 1
    with pytest.raises(DataError, match="qat was False, is True"):
        new_run(replace(recipe, qat=True), CPU).restore(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate": 0.01}, "rate was 0.02, is 0.01"),
        ({"steps": 99}, "steps was 1, is 99"),
        ({"degradation": JpegRange((5, 9))}, r"degradation.quality was \[10, 40\], is \[5, 9\]"),
        ({"degradation": H264Range()}, "degradation.coder was jpeg, is h264"),
        ({"sizes": {"layers": 5}}, "sizes.layers was None, is 5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_state_of_another_recipe_is_refused(changes, words, source, tmp_path) -> None:
    recipe = replace(XS, steps=1)
    trained(recipe, source, tmp_path / "state.pt")
    other = new_run(replace(recipe, **changes), CPU)
    before = {name: tensor.clone() for name, tensor in other.network.state_dict().items()}
    with pytest.raises(DataError, match=f"made with another recipe \\({words}\\)"):
        other.restore(tmp_path / "state.pt")
    assert all(torch.equal(before[k], tensor) for k, tensor in other.network.state_dict().items())
    assert other.step == 0


@pytest.mark.usefixtures("every_step")
def test_teacher_takes_its_share_of_the_loss(source, tmp_path) -> None:
    first: dict[float, float] = {}
    for share in (0.0, 0.25, 1.0):
        told: list[Progress] = []
        recipe = replace(XS, steps=1, teacher="edgecar-s", teacher_share=share)
        trained(recipe, source, tmp_path / f"{share}.pt", told.append)
        first[share] = told[0].loss
    alone: list[Progress] = []
    trained(replace(XS, steps=1), source, tmp_path / "alone.pt", alone.append)
    assert first[0.0] == alone[0].loss
    assert first[1.0] != alone[0].loss
    # float32
    assert first[0.25] == pytest.approx(0.75 * first[0.0] + 0.25 * first[1.0], rel=1e-5)


def by_hand(network: nn.Module) -> Run:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return Run(XS, network, network, Optimiser([], [], 1.0), scaler, CPU)


class Shift(nn.Module):
    def __init__(self, codes: float) -> None:
        super().__init__()
        self.codes = codes

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        assert picture.shape[2] % 16 == picture.shape[3] % 16 == 0  # as GL-Fusion needs it
        return picture + self.codes / 255


def gain_db(network: nn.Module, pairs: list[Pair]) -> float:
    return validation_gains_db(by_hand(network), {"q10": pairs})["q10"]


@pytest.mark.parametrize("size", [(300, 200), (128, 128), (75, 101), (16, 40)])
def test_gain_over_the_middle_of_pictures(size) -> None:
    clean = np.random.default_rng(0).integers(20, 200, size, np.uint8)
    held_out = [Pair(clean + np.uint8(4), clean)] * 2
    assert gain_db(nn.Identity(), held_out) == 0
    # Half the error is left: 20 log10 2. In float32 an error of 2/255 has 5 digits.
    assert gain_db(Shift(-2), held_out) == pytest.approx(6.0206, abs=1e-3)
    assert gain_db(Shift(4), held_out) == pytest.approx(-6.0206, abs=1e-3)


def test_gain_sees_the_middle_alone_and_is_a_mean() -> None:
    clean = np.full((256, 256), 100, np.uint8)
    coded = clean.copy()
    coded[64:192, 64:192] += 4
    outside = Pair(np.where(coded == 104, coded, 200).astype(np.uint8), clean)
    assert gain_db(Shift(-2), [outside]) == pytest.approx(6.0206, abs=1e-3)
    halved, doubled = Pair(coded, clean), Pair(clean - np.uint8(2), clean)
    assert gain_db(Shift(-2), [halved, doubled]) == pytest.approx(0, abs=1e-3)
    gains = validation_gains_db(by_hand(Shift(-2)), {"a": [halved], "b": [halved, doubled]})
    assert gains == pytest.approx({"a": 6.0206, "b": 0, "mean": 3.0103, "worst": -6.0206}, abs=1e-3)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, None),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, None),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"bf16": True}, torch.bfloat16),
    ],
)
def test_short_floats_only_where_the_cpu_has_them(capabilities, expected, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert half_precision(CPU) is expected


@pytest.mark.parametrize("capabilities", [{}, {"avx512_bf16": True}], ids=["float32", "bfloat16"])
def test_both_arithmetics_train(capabilities, source, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    run = trained(XS, source, tmp_path / "state.pt")
    assert all(weight.dtype == torch.float32 for weight in run.average.state_dict().values())
    assert all(weight.isfinite().all() for weight in run.average.state_dict().values())


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "mps", "meta", "cuda:99"])
def test_unknown_devices_are_refused_in_one_line(name) -> None:
    with pytest.raises(SettingsError, match=f"{name}") as caught:
        device_named(name)
    assert "\n" not in str(caught.value)


def test_device_is_the_first_gpu_or_the_cpu(monkeypatch) -> None:
    assert device_named("cpu") == CPU
    for there, kind in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.setattr(torch.cuda, "device_count", lambda there=there: int(there))
        assert device_named("auto").type == kind
    with pytest.raises(SettingsError, match="no CUDA device 'cuda:1' is usable here"):
        device_named("cuda:1")


def test_what_does_not_exist_is_known_before_anything_is_coded() -> None:
    for changes in ({"loss": "vgg"}, {"optimiser": "sgd"}, {"network": "edgecar-z"}):
        with pytest.raises(SettingsError):
            new_run(replace(XS, **changes), CPU)
