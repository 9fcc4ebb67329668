"""Resuming, retrying and reporting, in one process."""

import json
from collections import Counter
from contextlib import closing

import numpy as np
import pytest

from edgecar.batch import workers
from edgecar.batch.archive import FOLDER, BatchSettings, find_clips, locked_state
from edgecar.batch.run import Batch
from edgecar.batch.workers import ThisProcess
from edgecar.errors import MediaError
from tests.batch.conftest import FRAMES, PART_SECONDS, outputs_of


@pytest.fixture
def run(tmp_path):
    """A function that restores what is in ``tmp_path/src``, and what it told."""
    told = []

    def do(out="out", **changes):
        given = {"weights_for": "h264", "part_seconds": PART_SECONDS, "retries": 1, **changes}
        settings = BatchSettings("edgecar-xs", **given)
        clips = find_clips([tmp_path / "src"], tmp_path / out, settings.codec)
        shown = []
        with locked_state(tmp_path / out) as state, closing(ThisProcess(settings, 1)) as pool:
            report = Batch(clips, settings, pool, state, lambda *n: shown.append(n),
                           lambda *line: told.append(line)).run()  # fmt: skip
        report.shown = shown
        return report

    do.told = told
    return do


@pytest.fixture
def sources(gop_clip, tmp_path):
    (tmp_path / "src" / "gate").mkdir(parents=True)
    return [str(gop_clip("open", "src/a.mp4")),
            str(gop_clip("closed", "src/gate/b.mp4", audio="aac"))]  # fmt: skip


@pytest.fixture
def parts(monkeypatch):
    """Counts of parts that were begun; ``before`` and ``after`` are called with their clips."""
    begun, real = Counter(), workers.make_part
    begun.before = begun.after = lambda *_: None

    def make(source, plan, span, restorer, path, *rest):
        begun.before(source, path.stem)
        begun[source.name, path.stem] += 1
        done = real(source, plan, span, restorer, path, *rest)
        begun.after(source, path.stem)
        return done

    monkeypatch.setattr(workers, "make_part", make)
    return begun


def test_an_archive_is_done_once(sources, run, tmp_path, parts):
    report = run()
    assert report.frames == 2 * FRAMES
    assert report.outputs == [str(tmp_path / "out" / name) for name in ("a.mp4", "gate/b.mp4")]
    assert not report.failed
    assert report.shown[-1] == (2 * FRAMES, 2 * FRAMES)
    assert report.shown == sorted(report.shown, key=lambda shown: shown[0])
    assert [label for label, _ in run.told] == ["network", "engine"]  # once for both clips
    assert not list((tmp_path / "out" / FOLDER / "parts").rglob("*.mp4"))
    first, before = outputs_of(tmp_path / "out"), dict(parts)
    again = run()
    assert [entry["source"] for entry in again.skipped] == sources
    assert "done before" in again.skipped[0]["reason"]
    assert parts == before
    assert again.frames == 0
    assert outputs_of(tmp_path / "out") == first
    json.dumps(vars(again))
    (tmp_path / "out" / "a.mp4").unlink()  # an output that was lost is made again
    assert [entry["source"] for entry in run().skipped] == sources[1:]
    assert outputs_of(tmp_path / "out") == first


@pytest.mark.usefixtures("sources")
def test_what_changed_is_done_again_and_nothing_else(run, gop_clip):
    run()
    gop_clip("closed", "src/gate/b.mp4", frames=14)
    assert run().frames == 14
    assert run(part_seconds=10).frames == FRAMES + 14  # other settings
    assert run(part_seconds=10).frames == 0
    assert run(part_seconds=10, weights_for="jpeg").frames == FRAMES + 14  # other weights


@pytest.mark.usefixtures("sources")
def test_it_goes_on_where_it_was_interrupted(run, tmp_path, parts):
    run("whole")
    before = Counter(parts)

    def interrupt(source, part):
        if (source.name, part) == ("a.mp4", "part-00002"):  # the smaller one, which comes last
            raise KeyboardInterrupt

    parts.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        run()
    assert list(outputs_of(tmp_path / "out")) == ["gate/b.mp4"]
    (folder,) = {path.parent for path in (tmp_path / "out" / FOLDER / "parts").rglob("part-*")}
    half_written = folder / ".part-00002.x.mp4"
    half_written.write_bytes(b"killed")
    parts.before = lambda *_: None
    report = run()
    assert report.parts_kept == 2
    assert report.parts_lost == 0
    assert len(report.skipped) == 1
    assert outputs_of(tmp_path / "out") == outputs_of(tmp_path / "whole")
    assert parts == Counter({key: 2 * count for key, count in before.items()})  # nothing twice
    assert not half_written.exists()


@pytest.mark.parametrize(
    ("failures", "error", "reason"),
    [
        (1, MediaError("the disk hiccuped; wait"), None),
        (9, MediaError("cannot be decoded; record it again"), "cannot be decoded; record it again"),
        (9, ZeroDivisionError("two\nlines"), "a part failed (ZeroDivisionError: two lines); run"),
    ],
)
def test_a_part_that_fails_is_tried_again_and_the_others_go_on(
    sources, run, tmp_path, parts, failures, error, reason
):
    tries = Counter()

    def fail(source, part):
        tries[source.name, part] += 1
        if part == "part-00001" and source.name == "a.mp4" and tries[source.name, part] <= failures:
            raise error

    parts.before = fail
    report = run(retries=2)
    assert tries["a.mp4", "part-00001"] == min(3, failures + 1)
    if reason is None:
        assert not report.failed
        return
    (failed,) = report.failed
    assert failed["source"] == sources[0]
    assert failed["reason"].startswith(f"{sources[0]}: {reason}")
    assert "\n" not in failed["reason"]
    assert list(outputs_of(tmp_path / "out")) == ["gate/b.mp4"]
    parts.before = lambda *_: None
    again = run(retries=2)
    assert not again.failed
    assert again.parts_kept >= 1


@pytest.mark.usefixtures("sources")
def test_what_is_no_clip_fails_alone(run, tmp_path):
    (tmp_path / "src" / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    (tmp_path / "src" / "empty.mp4").touch()
    report = run()
    assert len(report.outputs) == 2
    empty, noise = (entry["reason"] for entry in report.failed)
    assert "noise.mp4 is not a video" in noise
    assert "empty.mp4 is empty" in empty


def test_damage_inside_a_clip_is_shown_the_same_way_every_time(gop_clip, run, tmp_path):
    """As `edgecar run` takes it: with what the decoder makes of it, and a warning."""
    (tmp_path / "src").mkdir()
    path = gop_clip("closed", "src/b.mp4", audio="aac")
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 600] = np.random.default_rng(0).bytes(600)
    path.write_bytes(damaged)
    first, second = run("first"), run("second")
    assert not first.failed
    assert first.warnings.total() > 0
    assert first.warnings == second.warnings
    assert outputs_of(tmp_path / "first") == outputs_of(tmp_path / "second")


def test_keyframes_that_are_none_make_a_clip_one_part(make_clip, run, tmp_path, parts):
    """Gradual refresh again: found out at the seam."""
    (tmp_path / "src").mkdir()
    options = {"g": "8", "x264-params": "intra-refresh=1:keyint=8:bframes=0", "preset": "fast"}
    make_clip("src/refresh.mp4", frames=24, options=options)
    report = run()
    assert not report.failed
    assert [label for label, _ in run.told] == ["network", "engine", "whole"]
    assert any("clips done in one part" in warning for warning in report.warnings)
    assert parts["refresh.mp4", "part-00000"] == 2
    cut = outputs_of(tmp_path / "out")
    run("one", part_seconds=100)
    assert outputs_of(tmp_path / "one") == cut


@pytest.mark.usefixtures("sources")
def test_a_source_that_changes_meanwhile_is_not_called_done(run, parts):
    def grow(source, _):
        with source.open("ab") as file:
            file.write(b"more")

    parts.after = grow
    report = run()
    assert len(report.failed) == 2
    assert all("was changed while" in entry["reason"] for entry in report.failed)
