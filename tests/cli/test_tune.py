"""``edgecar tune``: what is found is kept, and used by ``edgecar run``."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edgecar.artifact import Artifact
from edgecar.bench import select_precision
from edgecar.bench.select_precision import Speed
from edgecar.media.reader import open_reader
from edgecar.runtime import tune
from edgecar.runtime.tuning import Tuning
from tests.cli.test_run import clip  # noqa: F401  # a fixture

NO = "--no-precisions"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGECAR_CACHE", str(tmp_path))
    return tmp_path / "tuning"


@pytest.fixture
def network(tmp_path, write_artifact):
    return write_artifact(tmp_path / "own.onnx", "h264 crf 29-47")


@pytest.fixture
def fps(monkeypatch):
    """Speeds that are reported in place of the real ones, by what is changed; every pass is run."""
    table = {}

    def rounds(passes, _seconds, **_):
        assert all(run() > 0 for run in passes.values())
        return {tuning: [table.get(str(tuning), 100.0)] * 3 for tuning in passes}

    monkeypatch.setattr(tune, "timed_rounds", rounds)
    return table


def tuned(edgecar, clip, network, *options):  # noqa: F811
    words = ("--network", network, "--engine", "onnxruntime", "--threads", 2, "--frames", 3)
    return edgecar("tune", clip, *words, *options)


def run(edgecar, clip, network, output="null", *options):  # noqa: F811
    words = ("--network", network, "--engine", "onnxruntime", "--threads", 2)
    return edgecar("run", clip, "-o", output, *words, *options)


def test_the_fastest_is_kept_and_used(edgecar, clip, network, cache, fps):  # noqa: F811
    fps["cells of 16 px"] = 125.0
    done = tuned(edgecar, clip, network)
    assert done.code == 0
    (path,) = cache.iterdir()
    assert json.loads(path.read_text())["tuning"]["kept_px"] == 16
    assert "chosen      cells of 16 px: 1.25 times as fast as the defaults" in done.out
    assert str(path) in done.out
    assert "threads     all: 100.0; 1: 100.0 frames/s" in done.err
    assert "reuse       on: 100.0; off: 100.0 frames/s" in done.err
    assert "kept_px     32: 100.0; 16: 125.0; 64: 100.0 frames/s" in done.err
    used = run(edgecar, clip, network)
    assert "tuning    cells of 16 px, for 240x180 (edgecar tune)" in used.err
    elsewhere = edgecar("run", clip, "-o", "null", "--network", network, "--threads", 2)
    assert "tuning" not in elsewhere.err  # another engine


def test_output_is_the_same_bytes(edgecar, clip, network, tmp_path, fps):  # noqa: F811
    plain, other = tmp_path / "plain.mkv", tmp_path / "tuned.mkv"
    assert run(edgecar, clip, network, plain, "--codec", "ffv1").code == 0
    fps["no reuse"] = 200.0
    assert "chosen      no reuse" in tuned(edgecar, clip, network).out
    done = run(edgecar, clip, network, other, "--codec", "ffv1")
    assert "tuning    no reuse" in done.err
    assert "100% of the pixels" in done.out
    with open_reader(plain) as before, open_reader(other) as after:
        for one, two in zip(before, after, strict=True):
            np.testing.assert_array_equal(one.y, two.y)


def test_nothing_faster_keeps_nothing(edgecar, clip, network, cache, fps):  # noqa: F811
    fps["no reuse"] = 200.0
    tuned(edgecar, clip, network)
    assert list(cache.iterdir())
    fps["no reuse"] = 102.0
    done = tuned(edgecar, clip, network)
    assert done.code == 0
    assert "chosen      the defaults: nothing is 3 % faster here" in done.out
    assert not list(cache.iterdir())  # nor what was kept before
    assert "tuning" not in run(edgecar, clip, network).err


def test_a_damaged_file_is_a_line(edgecar, clip, network, cache, fps):  # noqa: F811
    fps["no reuse"] = 200.0
    tuned(edgecar, clip, network)
    (path,) = cache.iterdir()
    path.write_text("{")
    done = run(edgecar, clip, network)
    assert done.code == 0
    assert f"warning   {path}: no tuning (" in done.err


def test_as_json(edgecar, clip, network, cache, fps):  # noqa: F811
    fps["cells of 64 px"] = 110.0
    done = tuned(edgecar, clip, network, "--json")
    table = json.loads(done.out)
    assert Tuning(**table["tuning"]) == Tuning(kept_px=64)
    assert table["gain"] == pytest.approx(1.1)
    assert [table["path"]] == [str(path) for path in cache.iterdir()]
    assert [each["fps"] for each in table["trials"]["kept_px"]] == [100, 100, 110]


@pytest.fixture
def contest(monkeypatch, exported):
    """Precisions that pass the gate, and speeds that are reported of them."""
    base, speeds = exported("edgecar-xs"), {}
    lower = Artifact(replace(base.metadata, precision="int8"), base.onnx)

    def candidates(source, _base, lowering, _report):
        assert (source.stem, lowering.for_engine) == ("edgecar-xs.h264", "onnxruntime")
        return {"fp32": base, "int8": lower}, {"fp16": "loses 1 dB"}

    def timed(setup, artifacts, tuning, _seconds):
        assert (setup.engine, str(tuning)) == ("onnxruntime", "no reuse")
        return {name: Speed(name, "Library 1", [speeds[name]] * 4) for name in artifacts}

    monkeypatch.setattr(select_precision, "candidates", candidates)
    monkeypatch.setattr(select_precision, "timed_on_clip", timed)
    monkeypatch.setattr(select_precision.Source, "graph", lambda _source: (None, base.metadata))
    return speeds


def test_precisions_of_shipped_weights_are_timed_on_the_clip(edgecar, clip, fps, contest):  # noqa: F811
    fps["no reuse"] = 200.0
    contest |= {"fp32": 50.0, "int8": 75.0}
    done = tuned(edgecar, clip, "edgecar-xs")
    assert done.code == 0, done.err
    table = [line.split() for line in done.out.splitlines()]
    assert ["int8", "int8", "75.0", "1.50", "1.50", "–", "–", "taken"] in table
    assert ["fp16", "–", "–", "–", "–", "–", "–", "refused:", "loses", "1", "dB"] in table
    command = "edgecar export edgecar-xs --for h264 --precision int8 --for-engine onnxruntime"
    assert command in done.err


def test_fp32_stays_where_nothing_is_faster(edgecar, clip, fps, contest):  # noqa: F811
    fps["no reuse"] = 200.0
    contest |= {"fp32": 50.0, "int8": 40.0}
    done = tuned(edgecar, clip, "edgecar-xs", "--json")
    precisions = json.loads(done.out)["precisions"]
    assert precisions["taken"] == "fp32"
    assert [s["outcome"] for s in precisions["standings"]] == ["taken", "slower", "refused"]
    assert "edgecar run" in tuned(edgecar, clip, "edgecar-xs").err


def test_files_and_a_precision_asked_for_stay_as_they_are(edgecar, clip, network, fps, monkeypatch):  # noqa: F811
    monkeypatch.setattr(select_precision, "candidates", lambda *_: pytest.fail("were made"))
    fps["no reuse"] = 200.0
    for options in ((network,), ("edgecar-xs", "--precision", "fp32"), ("edgecar-xs", NO)):
        assert tuned(edgecar, clip, *options).code == 0


def test_precisions_run_through_the_clip_in_turn(clip, exported):  # noqa: F811
    base = exported("edgecar-xs")
    lower = Artifact(replace(base.metadata, precision="int8"), base.onnx)
    # What the engine computes in another precision is only FP32 with casts.
    halves = Artifact(replace(base.metadata, precision="fp16"), base.onnx)
    setup = tune.Setup(str(clip), base, "onnxruntime", threads=1, frames=2)
    artifacts = {"fp32": base, "fp16": halves, "int8": lower}
    speeds = select_precision.timed_on_clip(setup, artifacts, Tuning(), seconds=0)
    rounds = {name: len(speed.rates) for name, speed in speeds.items()}
    assert rounds == {"fp32": select_precision.ROUNDS, "fp16": 0, "int8": select_precision.ROUNDS}


def test_a_clip_that_is_not_there_is_a_line(edgecar, cache):
    done = edgecar("tune", "nothing.mp4")
    assert done.code == 1
    assert "nothing.mp4" in done.err
    assert not cache.exists()
