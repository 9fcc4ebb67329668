"""Resuming, retrying and reporting, in one process; with several in `test_workers`."""

import json
from collections import Counter

import numpy as np
import pytest

from edgecar.batch import workers
from edgecar.batch.archive import FOLDER, BatchSettings, find_clips, locked_state
from edgecar.batch.run import Batch
from edgecar.batch.workers import ThisProcess
from edgecar.errors import MediaError
from tests.batch.conftest import FRAMES, PART_SECONDS, outputs_of


@pytest.fixture
def settings():
    return BatchSettings("edgecar-xs", "h264", part_seconds=PART_SECONDS, retries=1)


@pytest.fixture
def run(tmp_path, settings):
    """A function that restores what is in ``tmp_path/src``, and what it told."""
    told = []

    def do(out="out", **changes):
        chosen = BatchSettings(**{**vars(settings), **changes})
        clips = find_clips([tmp_path / "src"], tmp_path / out, chosen.codec)
        shown = []
        with locked_state(tmp_path / out) as state, ThisProcess(chosen, 1) as pool:
            batch = Batch(clips, chosen, pool, state, lambda *n: shown.append(n),
                          lambda *line: told.append(line))  # fmt: skip
            report = batch.run()
        report.shown = shown
        return report

    do.told = told
    return do


@pytest.fixture
def sources(gop_clip, tmp_path):
    (tmp_path / "src" / "gate").mkdir(parents=True)
    return gop_clip("open", "src/a.mp4"), gop_clip("closed", "src/gate/b.mp4", audio="aac")


@pytest.fixture
def counted_parts(monkeypatch):
    """Parts that were begun."""
    begun, real = Counter(), workers.make_part

    def make(source, plan, span, *rest):
        begun[source.name, span.number] += 1
        return real(source, plan, span, *rest)

    monkeypatch.setattr(workers, "make_part", make)
    return begun


def test_an_archive_is_done_once(sources, run, tmp_path, counted_parts):
    report = run()
    assert report.frames == 2 * FRAMES
    assert [path.name for path in report.done] == ["a.mp4", "b.mp4"]
    assert not report.failed
    assert report.shown[-1] == (2 * FRAMES, 2 * FRAMES)
    assert [done for done, _ in report.shown] == sorted(done for done, _ in report.shown)
    assert [label for label, _ in run.told] == ["network", "engine"]  # once for both clips
    assert not list((tmp_path / "out" / FOLDER / "parts").rglob("*.mp4"))
    first, before = outputs_of(tmp_path / "out"), dict(counted_parts)
    again = run()
    assert set(again.skipped) == set(sources)
    assert "done before" in again.skipped[sources[0]]
    assert counted_parts == before
    assert again.frames == 0
    assert outputs_of(tmp_path / "out") == first
    json.dumps(again.table())
    (tmp_path / "out" / "a.mp4").unlink()  # an output that was lost is made again
    assert list(run().skipped) == [sources[1]]
    assert outputs_of(tmp_path / "out") == first


def test_what_changed_is_done_again_and_nothing_else(sources, run, gop_clip):
    run()
    gop_clip("closed", "src/gate/b.mp4", frames=14)
    report = run()
    assert list(report.skipped) == [sources[0]]
    assert report.frames == 14
    assert run(part_seconds=10).frames == FRAMES + 14  # other settings
    assert set(run(part_seconds=10).skipped) == set(sources)
    assert run(part_seconds=10, weights_for="jpeg").frames == FRAMES + 14  # other weights


def test_it_goes_on_where_it_was_interrupted(sources, run, tmp_path, monkeypatch, counted_parts):
    run("whole")
    begun, before = workers.make_part, Counter(counted_parts)

    def interrupted(source, plan, span, *rest):
        if (source.name, span.number) == ("b.mp4", 2):
            raise KeyboardInterrupt
        return begun(source, plan, span, *rest)

    monkeypatch.setattr(workers, "make_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert list(outputs_of(tmp_path / "out")) == ["a.mp4"]
    half_written = next((tmp_path / "out" / FOLDER / "parts").glob("*/*")) / ".part-00002.x.mp4"
    half_written.write_bytes(b"killed")
    monkeypatch.setattr(workers, "make_part", begun)
    report = run()
    assert report.parts_kept == 2
    assert list(report.skipped) == [sources[0]]
    assert outputs_of(tmp_path / "out") == outputs_of(tmp_path / "whole")
    twice = Counter({key: 2 * count for key, count in before.items()})
    assert counted_parts == twice  # nothing was done over again
    assert not half_written.exists()


@pytest.mark.parametrize(
    ("failures", "error", "reason"),
    [
        (1, MediaError("the disk hiccuped; wait"), None),
        (9, MediaError("cannot be decoded; record it again"), "cannot be decoded; record it again"),
        (
            9,
            ZeroDivisionError("two\nlines"),
            "part failed (ZeroDivisionError: two lines); run again",
        ),
    ],
)
def test_a_part_that_fails_is_tried_again_and_the_others_go_on(
    sources, run, tmp_path, monkeypatch, failures, error, reason
):
    real, tries = workers.make_part, Counter()

    def failing(source, plan, span, *rest):
        if (source.name, span.number) == ("a.mp4", 1):
            tries[span.number] += 1
            if tries[1] <= failures:
                raise error
        return real(source, plan, span, *rest)

    monkeypatch.setattr(workers, "make_part", failing)
    report = run(retries=2)
    if reason is None:
        assert tries == {1: 2}
        assert not report.failed
        return
    assert tries == {1: 3}
    assert report.failed[sources[0]].startswith(f"{sources[0]}: {reason}")
    assert "\n" not in report.failed[sources[0]]
    assert list(outputs_of(tmp_path / "out")) == ["gate/b.mp4"]
    monkeypatch.setattr(workers, "make_part", real)
    again = run(retries=2)
    assert not again.failed
    assert again.parts_kept >= 1


@pytest.mark.usefixtures("sources")
def test_what_is_no_clip_fails_alone(run, tmp_path):
    (tmp_path / "src" / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    (tmp_path / "src" / "empty.mp4").touch()
    report = run()
    assert len(report.done) == 2
    reasons = {path.name: why for path, why in report.failed.items()}
    assert "is not a video" in reasons["noise.mp4"]
    assert "is empty" in reasons["empty.mp4"]


def test_damage_inside_a_clip_is_shown_the_same_way_every_time(sources, run, tmp_path):
    """As `edgecar run` takes it: with what the decoder makes of it, and a warning."""
    damaged = bytearray(sources[1].read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 600] = np.random.default_rng(0).bytes(600)
    sources[1].write_bytes(damaged)
    first, second = run("first"), run("second")
    assert not first.failed
    assert sum(first.warnings.values()) > 0
    assert first.warnings == second.warnings
    assert outputs_of(tmp_path / "first") == outputs_of(tmp_path / "second")


def test_keyframes_that_are_none_make_a_clip_one_part(make_clip, run, tmp_path, counted_parts):
    """Gradual refresh again: found out at the seam, and noted for the next time."""
    (tmp_path / "src").mkdir()
    options = {"g": "8", "x264-params": "intra-refresh=1:keyint=8:bframes=0", "preset": "fast"}
    make_clip("src/refresh.mp4", frames=24, options=options)
    report = run()
    assert not report.failed
    assert [label for label, _ in run.told] == ["network", "engine", "whole"]
    assert any("clips done in one part" in warning for warning in report.warnings)
    assert counted_parts["refresh.mp4", 0] == 2
    cut = outputs_of(tmp_path / "out")
    run("one", part_seconds=100)
    assert outputs_of(tmp_path / "one") == cut


@pytest.mark.usefixtures("sources")
def test_a_source_that_changes_meanwhile_is_not_called_done(run, monkeypatch):
    real = workers.make_part

    def growing(source, *rest):
        done = real(source, *rest)
        with source.open("ab") as file:
            file.write(b"more")
        return done

    monkeypatch.setattr(workers, "make_part", growing)
    assert all("was changed while" in why for why in run().failed.values())
