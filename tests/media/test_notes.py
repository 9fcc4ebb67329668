"""Titles, chapters, timecode, subtitles and further videos: copied, or named as lost."""

from fractions import Fraction

import av
import pytest

from tests.media.conftest import copied

MILLISECOND = Fraction(1, 1000)
SUBTITLES = """1
00:00:00,100 --> 00:00:00,300
gate opens

2
00:00:00,350 --> 00:00:00,450
gate closes
"""
NOTES = {
    "title": "Gate",
    "creation_time": "2026-01-02T03:04:05.000000Z",
    "location": "+48.1000+011.5000/",
    "comment": "north side",
}


def remuxed(target, *sources, notes=(), chapters=(), video=()):
    """All streams of some files in one, with notes of its own."""
    with av.open(str(target), "w") as output:
        inputs = [av.open(str(source)) for source in sources]
        copies = [
            (each, {s: output.add_stream_from_template(s, opaque=True) for s in each.streams})
            for each in inputs
        ]
        output.metadata.update(dict(notes))
        output.streams.video[0].metadata.update(dict(video))
        if chapters:
            output.set_chapters(list(chapters))
        for each, streams in copies:
            for packet in [p for p in each.demux() if p.size]:
                packet.stream = streams[packet.stream]
                output.mux(packet)
        for each in inputs:
            each.close()
    return target


def chapter(number, start, end, title):
    times = {"start": start, "end": end, "time_base": MILLISECOND}
    return {"id": number, **times, "metadata": {"title": title}}


def contents(path):
    """Kinds of streams, notes in lower case and chapters in seconds."""
    with av.open(str(path)) as container:
        kinds = [stream.type for stream in container.streams]
        notes = {name.lower(): value for name, value in container.metadata.items()}
        of_video = container.streams.video[0].metadata
        notes |= {name.lower(): value for name, value in of_video.items()}
        chapters = [
            (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"])
            for c in container.chapters()
        ]
    return kinds, notes, chapters


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_notes_and_chapters_are_kept(make_clip, tmp_path, suffix):
    chapters = [chapter(0, 0, 200, "one"), chapter(1, 200, 480, "two")]
    of_video = {"language": "deu", "timecode": "01:00:00:00"}
    source = remuxed(
        tmp_path / "a.mp4", make_clip(audio="aac"), notes=NOTES, chapters=chapters, video=of_video
    )
    target = tmp_path / f"out{suffix}"
    for path in (source, target):  # a copy of a copy says the same
        assert copied(path, tmp_path / f"again{suffix}") == {}
        (tmp_path / f"again{suffix}").replace(target)
        kinds, notes, marks = contents(target)
        assert NOTES.items() <= notes.items()
        assert notes["timecode"] == "01:00:00:00"
        assert suffix == ".mov" or notes["language"] in ("deu", "ger")
        assert marks == [(0, 0.2, {"title": "one"}), (0.2, 0.48, {"title": "two"})]
        assert kinds.count("video") == kinds.count("audio") == 1


def test_chapters_move_with_the_first_picture(make_clip, tmp_path):
    late = make_clip(pts=[25 + n for n in range(12)])
    source = remuxed(tmp_path / "a.mkv", late, chapters=[chapter(0, 1000, 1480, "all")])
    copied(source, tmp_path / "out.mkv")
    assert contents(tmp_path / "out.mkv")[2] == [(0, 0.48, {"title": "all"})]


def test_what_a_format_does_not_store_is_named(make_clip, tmp_path):
    notes = NOTES | {"com.android.version": "13"}
    source = remuxed(
        tmp_path / "a.mkv",
        make_clip(rate=Fraction(12)),
        notes=notes,
        chapters=[chapter(0, 0, 200, "one")],
        video={"timecode": "01:00:00:00"},
    )
    assert copied(source, tmp_path / "out.mp4") == {
        "notes that mp4 does not store: com.android.version": 1,
        "timecode lost: not stored in mp4 at 12 frames a second": 1,
    }
    assert set(copied(source, tmp_path / "out.avi", codec="ffv1")) == {
        "notes that avi does not store: com.android.version, creation_time, location",
        "timecode lost: not stored in avi at 12 frames a second",
        "chapters are not stored in avi",
    } | {"timestamps rounded to 1/12 s"}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_further_video_is_copied(make_clip, tmp_path, suffix):
    main = make_clip("main.mp4", options={"bf": "2"})
    further = make_clip("further.mp4", frames=9, size=(32, 48), options={"bf": "2"})
    source = remuxed(tmp_path / f"a{suffix}", main, further)
    assert copied(source, tmp_path / "out.mp4") == {}
    with av.open(str(tmp_path / "out.mp4")) as container:
        first, second = container.streams.video
        assert (first.height, first.frames) == (48, 12)
        assert (second.height, second.frames) == (32, 9)
        after = [bytes(p) for p in container.demux(second) if p.size]
    with av.open(str(further)) as container:
        assert after == [bytes(p) for p in container.demux(video=0) if p.size]


def test_subtitles_are_copied_or_named(make_clip, tmp_path):
    (tmp_path / "a.srt").write_text(SUBTITLES)
    source = remuxed(tmp_path / "a.mkv", make_clip(audio="aac"), tmp_path / "a.srt")
    assert copied(source, tmp_path / "out.mkv") == {}
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [stream.type for stream in container.streams].count("subtitle") == 1
        shown = [(p.pts, p.duration, bytes(p)) for p in container.demux(subtitles=0) if p.size]
    assert shown == [(100, 200, b"gate opens"), (350, 100, b"gate closes")]
    (warning,) = copied(source, tmp_path / "out.mp4")
    assert warning.startswith("subtitles left out: mp4 does not take")


def test_attachments_are_named(make_clip, tmp_path):
    source = tmp_path / "a.mkv"
    with av.open(str(make_clip())) as whole, av.open(str(source), "w") as output:
        stream = output.add_stream_from_template(whole.streams.video[0], opaque=True)
        output.add_attachment("plan.txt", "text/plain", b"a plan of the yard")
        for packet in [p for p in whole.demux(video=0) if p.size]:
            packet.stream = stream
            output.mux(packet)
    assert copied(source, tmp_path / "out.mkv") == {"attachment stream left out: plan.txt": 1}
