"""Tunings change how a restorer works, never what comes out, and are kept per machine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.engines.fake import FakeEngine
from edgecar.errors import SettingsError
from edgecar.runtime import restorer as restorers
from edgecar.runtime import tuning as tunings
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stream_cache import Reuse
from edgecar.runtime.tune import Setup, search
from edgecar.runtime.tuning import (
    MAX_READ_PX,
    Tuning,
    TuningKey,
    cpu_name,
    load_tuning,
    store_tuning,
    tuning_key,
)
from tests.runtime.test_restorer import fake_artifact
from tests.runtime.test_stream_cache import blurred, noise

SIZE = (232, 312)
KEY = TuningKey("net abc", "fake", "a Python function", "fp32", 2, "Some CPU", *SIZE)
TUNED = Tuning(kept_px=16, max_read_px=1 << 18, step_px=32, threads=1)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGECAR_CACHE", str(tmp_path))
    return tmp_path / "tuning"


def restorer_with(
    tuning: Tuning | None, reuse: bool | Reuse = True, align: int = 1, halo: int = 8
) -> Restorer:
    engine = FakeEngine(blurred, align_px=align)
    return Restorer(fake_artifact(halo=halo, align=align), engine, reuse=reuse, tuning=tuning)


TUNINGS = st.builds(
    Tuning,
    kept_px=st.integers(1, 40).map(lambda n: 4 * n),
    max_read_px=st.integers(4_000, MAX_READ_PX),
    step_px=st.integers(1, 200),
    reuse=st.sampled_from([True, True, True, False]),
    threads=st.none() | st.integers(1, 4),
)
PATCH = st.tuples(*(st.integers(0, side - 1) for side in SIZE), st.integers(1, 20))


@settings(max_examples=60)
@given(
    TUNINGS,
    st.sampled_from([1, 2, 8]),
    st.lists(st.lists(PATCH, min_size=1, max_size=3), min_size=1, max_size=5),
)
def test_output_is_the_same_bytes_whatever_the_tuning(tuning, align, changes):
    frame = noise(SIZE)
    halo = max(2, align)  # `blurred` sees 2 px far: with more, an error could hide
    tuned = restorer_with(tuning, True, align, halo)
    plain = restorer_with(Tuning(), False, align, halo)
    for change in [[], *changes]:
        for row, column, side in change:
            frame[row : row + side, column : column + side] ^= 128
        np.testing.assert_array_equal(tuned.luma(frame), plain.luma(frame))


def pixels_of_a_small_change(tuning: Tuning) -> int:
    frame, restorer = noise(SIZE), restorer_with(tuning)
    restorer.luma(frame)
    before = restorer.stats.pixels_read
    frame[100, (68, 188)] ^= 1
    restorer.luma(frame)
    return restorer.stats.pixels_read - before


def test_every_setting_arrives():
    # Both changes lie in one run of cells of 64 px, but not in one of cells of 16 px.
    assert pixels_of_a_small_change(Tuning(kept_px=16, step_px=32)) == 2 * 64 * 64
    assert pixels_of_a_small_change(Tuning(kept_px=64, step_px=32)) == 64 * 160
    assert pixels_of_a_small_change(Tuning(kept_px=64, step_px=128)) == 128 * 256
    assert pixels_of_a_small_change(Tuning(reuse=False)) == SIZE[0] * SIZE[1]
    default = pixels_of_a_small_change(Tuning())
    assert default == pixels_of_a_small_change(Tuning(threads=3)) < SIZE[0] * SIZE[1]
    assert len(restorer_with(Tuning()).plan(SIZE)) == 1
    assert len(restorer_with(Tuning(max_read_px=30_000)).plan(SIZE)) > 2
    frame, verified = noise(SIZE), restorer_with(Tuning(reuse=False), Reuse(verify_every=3))
    verified.luma(frame)
    verified.luma(frame)
    assert verified.stats.windows_run == 1  # more than speed was asked of reuse


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kept_px": 30}, "kept_px is 30; need a multiple of 4"),
        ({"kept_px": 0}, "kept_px is 0; need a whole number of at least 1"),
        ({"step_px": 1.5}, "step_px is 1.5; need a whole"),
        ({"max_read_px": True}, "max_read_px is True; need a whole"),
        ({"reuse": 1}, "reuse is 1; need true or false"),
        ({"threads": "2"}, "threads is '2'; need a whole"),
    ],
)
def test_impossible_tunings_are_refused(values, message):
    with pytest.raises(SettingsError, match=message):
        Tuning(**values)


def test_a_tuning_in_words():
    words = "cells of 16 px, no reuse, 1 thread(s)"
    assert str(Tuning(kept_px=16, reuse=False, threads=1)) == words
    assert str(Tuning()) == "defaults"


def test_a_tuning_is_found_again_for_the_same_key_only(cache):
    assert load_tuning(KEY) is None
    path = store_tuning(KEY, TUNED, 1.0712345)
    assert path.parent == cache
    assert json.loads(path.read_text())["gain"] == 1.0712
    assert load_tuning(KEY) == TUNED
    for name in KEY.__dataclass_fields__:
        other = getattr(KEY, name)
        assert load_tuning(replace(KEY, **{name: other * 2})) is None


def test_a_restorer_takes_what_is_kept_unless_told_otherwise():
    assert restorer_with(None).tunings.of(SIZE) == Tuning()
    key = restorer_with(None).tunings.key(SIZE)
    assert (key.engine, key.height, key.width, key.cpu) == ("fake", *SIZE, cpu_name())
    store_tuning(key, TUNED, 1.1)
    tuned = restorer_with(None)
    assert tuned.tunings.of(SIZE) == TUNED
    assert tuned.tunings.of((64, 64)) == Tuning()
    assert tuned.tunings.loaded == {SIZE: TUNED}
    given = restorer_with(Tuning(kept_px=64))
    assert given.tunings.of(SIZE) == Tuning(kept_px=64)
    assert not given.tunings.loaded


def test_the_key_knows_the_weights():
    info, (one, other) = FakeEngine(blurred).info, (fake_artifact(), fake_artifact())
    other = replace(other, onnx=b"other")
    assert tuning_key(one, info, 1, SIZE) != tuning_key(other, info, 1, SIZE)
    named = [replace(a, metadata=replace(a.metadata, weights_sha256="ab")) for a in (one, other)]
    assert tuning_key(named[0], info, 1, SIZE) == tuning_key(named[1], info, 1, SIZE)


@pytest.mark.parametrize(
    "damage",
    [
        *("{", "{}", "[]", "null", "\udc80"),
        {"key": {}},
        *({"tuning": wrong} for wrong in ({"kept_px": 3}, {"kept_px": "16"}, {"speed": 3}, 7)),
    ],
    ids=str,
)
def test_a_damaged_file_is_a_warning_and_no_more(damage):
    frame = noise(SIZE)
    path = store_tuning(restorer_with(None).tunings.key(SIZE), TUNED, 1.1)
    text = damage
    if isinstance(damage, dict):
        text = json.dumps({**json.loads(path.read_text()), **damage})
    path.write_bytes(text.encode(errors="surrogateescape"))
    restorer = restorer_with(None)
    np.testing.assert_array_equal(restorer.luma(frame), restorer_with(Tuning()).luma(frame))
    assert restorer.tunings.of(SIZE) == Tuning()
    (warning,) = restorer.tunings.warnings
    assert str(path) in warning
    assert "the defaults are used: run edgecar tune again" in warning


def test_the_engine_runs_on_the_threads_that_were_chosen(monkeypatch):
    opened: list[FakeEngine] = []
    threads: list[int] = []

    def open_engine(_artifact: object, _name: str, _precision: None, count: int) -> FakeEngine:
        threads.append(count)
        opened.append(FakeEngine(blurred))
        return opened[-1]

    monkeypatch.setattr(restorers, "open_engine", open_engine)
    Restorer(fake_artifact(), "auto", threads=4, tuning=Tuning(threads=3)).luma(noise(SIZE))
    Restorer(fake_artifact(), "auto", threads=4, tuning=Tuning(threads=9)).luma(noise(SIZE))
    assert threads == [3, 4]
    restorer = Restorer(fake_artifact(), "auto", threads=4)
    store_tuning(restorer.tunings.key(SIZE), TUNED, 1.1)
    restorer.luma(noise(SIZE))
    restorer.luma(noise(SIZE))
    assert threads == [3, 4, 4, 1]
    with pytest.raises(Exception, match="closed"):
        opened[2].run_codes([], lambda *_: None)
    assert restorer.engine is opened[3]


def test_the_processor_has_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tunings, "CPUINFO", tmp_path / "cpuinfo")
    unnamed = cpu_name.__wrapped__()
    assert unnamed
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Atom X: 9\nmodel name : B\n")
    assert cpu_name.__wrapped__() == "Atom X: 9"


class Machine:
    """Goes through a clip as fast as a function says, and notes who was asked in what order."""

    def __init__(self, fps):
        self.fps, self.calls, self.open = fps, [], 0

    @contextmanager
    def contender(self, tuning: Tuning) -> Iterator:
        self.open += 1
        yield lambda: self.calls.append(tuning) or self.fps(tuning)
        self.open -= 1

    def search(self, factors=None, tried=lambda *_: None):
        return search(factors or FACTORS, self.contender, 0, tried)


FACTORS = {"threads": [1], "reuse": [False], "kept_px": [16, 64], "step_px": [32, 128]}


def test_the_search_keeps_what_is_faster_factor_by_factor():
    def fps(tuning: Tuning) -> float:
        speed = 100.0 * {16: 0.9, 32: 1.0, 64: 1.2}[tuning.kept_px]
        return speed * (1.1 if tuning.step_px == 128 else 1) * (0.5 if tuning.threads else 1)

    machine, told = Machine(fps), []
    found = machine.search(tried=lambda factor, _: told.append(factor))
    assert found.tuning == Tuning(kept_px=64, step_px=128)
    assert found.gain == pytest.approx(1.32)
    assert told == list(found.trials) == list(FACTORS)
    assert found.trials["kept_px"] == {
        Tuning(): 100,
        Tuning(kept_px=16): pytest.approx(90),
        Tuning(kept_px=64): 120,
    }
    assert machine.open == 0
    # In turn: one warm-up and three rounds of the first two candidates.
    assert machine.calls[:8] == [Tuning(), Tuning(threads=1)] * 4


@pytest.mark.parametrize(("gain", "kept"), [(1.029, False), (1.031, True)])
def test_less_than_three_percent_is_nothing(gain, kept):
    found = Machine(lambda tuning: 100.0 if tuning == Tuning() else 100 * gain).search()
    assert (found.tuning != Tuning()) is kept
    assert found.gain == (pytest.approx(gain) if kept else 1.0)


def test_without_reuse_its_settings_are_not_tried():
    found = Machine(lambda tuning: 100.0 if tuning.reuse else 150.0).search()
    assert found.tuning == Tuning(reuse=False)
    assert list(found.trials) == ["threads", "reuse"]


def test_what_won_by_chance_must_win_again():
    lucky = iter([100.0, 200.0] * 4 + [100.0, 100.0] * 4)
    found = Machine(lambda _: next(lucky)).search({"reuse": [False]})
    assert (found.tuning, found.gain) == (Tuning(), 1.0)
    assert found.trials["reuse"][Tuning(reuse=False)] == 200


def test_only_what_can_make_a_difference_is_tried():
    setup = Setup("clip.mp4", fake_artifact(), threads=8)
    large = setup.factors((2160, 3840))
    assert large["threads"] == [1, 4]
    assert large["max_read_px"] == [1 << 18, 1 << 19]
    assert setup.factors((360, 640))["max_read_px"] == []
    assert setup.factors((480, 640))["max_read_px"] == [1 << 18]
    heavy = Setup("clip.mp4", fake_artifact(bytes_per_px=2000), threads=1)
    assert heavy.factors((2160, 3840))["max_read_px"] == [1 << 18]  # memory allows 268,435
    assert heavy.factors((2160, 3840))["threads"] == []
