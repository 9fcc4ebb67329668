"""Titles, chapters, timecode, subtitles, further videos, orientation: copied, or named as lost."""

from contextlib import ExitStack
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.sidedata.sidedata import Type

import edgecar
from edgecar.artifact import Artifact
from edgecar.metadata import Metadata
from tests.media.conftest import copied, packets_of, photo, read_all

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


def remuxed(target, *sources, notes=(), chapters=(), video=(), attachment=None):
    """All streams of some files in one, with notes of its own; a chapter is start, end, title."""
    with ExitStack() as opened:
        inputs = [opened.enter_context(av.open(str(source))) for source in sources]
        output = opened.enter_context(av.open(str(target), "w"))
        copies = [
            {s: output.add_stream_from_template(s, opaque=True) for s in each.streams}
            for each in inputs
        ]
        output.metadata.update(dict(notes))
        output.streams.video[0].metadata.update(dict(video))
        if attachment:
            output.add_attachment(attachment, "text/plain", b"a plan of the yard")
        if chapters:
            output.set_chapters(
                [
                    {
                        "id": number,
                        "start": start,
                        "end": end,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": title},
                    }
                    for number, (start, end, title) in enumerate(chapters)
                ]
            )
        for each, streams in zip(inputs, copies, strict=True):
            for packet in [p for p in each.demux() if p.size]:
                packet.stream = streams[packet.stream]
                output.mux(packet)
    return target


def contents(path):
    """Kinds of streams, notes in lower case and chapters in milliseconds."""
    with av.open(str(path)) as container:
        notes = container.metadata | container.streams.video[0].metadata
        chapters = [
            (
                *(round(c[key] * c["time_base"] * 1000) for key in ("start", "end")),
                *c["metadata"].values(),
            )
            for c in container.chapters()
        ]
        kinds = [stream.type for stream in container.streams]
        return kinds, {name.lower(): value for name, value in notes.items()}, chapters


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_notes_and_chapters_are_kept(make_clip, tmp_path, suffix):
    chapters = [(0, 200, "one"), (200, 480, "two")]
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
        assert marks == chapters
        assert kinds.count("video") == kinds.count("audio") == 1


def test_chapters_move_with_the_first_picture(make_clip, tmp_path):
    late = make_clip(pts=[25 + n for n in range(12)])
    copied(remuxed(tmp_path / "a.mkv", late, chapters=[(1000, 1480, "all")]), tmp_path / "out.mkv")
    assert contents(tmp_path / "out.mkv")[2] == [(0, 480, "all")]


def test_what_a_format_does_not_store_is_named(make_clip, tmp_path):
    source = remuxed(
        tmp_path / "a.mkv",
        make_clip(rate=Fraction(12)),
        notes=NOTES | {"com.android.version": "13"},
        chapters=[(0, 200, "one")],
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
        "timestamps rounded to 1/12 s",
    }


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_further_video_is_copied(make_clip, tmp_path, suffix):
    main = make_clip("main.mp4", options={"bf": "2"})
    further = make_clip("further.mp4", frames=9, size=(32, 48), options={"bf": "2"})
    source = remuxed(tmp_path / f"a{suffix}", main, further)
    assert copied(source, tmp_path / "out.mp4") == {}
    with av.open(str(tmp_path / "out.mp4")) as container:
        streams = container.streams.video
        assert [(s.height, s.frames) for s in streams] == [(48, 12), (32, 9)]
    after, before = packets_of(tmp_path / "out.mp4", video=1), packets_of(further, video=0)
    assert [bytes(p) for p in after] == [bytes(p) for p in before]


def test_subtitles_are_copied_or_named(make_clip, tmp_path):
    (tmp_path / "a.srt").write_text(SUBTITLES)
    source = remuxed(tmp_path / "a.mkv", make_clip(audio="aac"), tmp_path / "a.srt")
    assert copied(source, tmp_path / "out.mkv") == {}
    assert contents(tmp_path / "out.mkv")[0].count("subtitle") == 1
    shown = [(p.pts, p.duration, bytes(p)) for p in packets_of(tmp_path / "out.mkv", subtitles=0)]
    assert shown == [(100, 200, b"gate opens"), (350, 100, b"gate closes")]
    (warning,) = copied(source, tmp_path / "out.mp4")
    assert warning.startswith("subtitles left out: mp4 does not take")


def test_attachments_are_named(make_clip, tmp_path):
    source = remuxed(tmp_path / "a.mkv", make_clip(), attachment="plan.txt")
    assert copied(source, tmp_path / "out.mkv") == {"attachment stream left out: plan.txt": 1}


NOTHING = Artifact(Metadata("none", 1, 2, 1, "local", 8, "fp32", "", "", 0.0, 0.0), b"")
STORED = photo(0, (48, 64))[..., ::-1]
SHOWN = {
    (0, False): STORED,
    (90, False): np.rot90(STORED),
    (180, False): np.rot90(STORED, 2),
    (270, False): np.rot90(STORED, 3),
    (0, True): np.fliplr(STORED),
    (90, True): np.fliplr(np.rot90(STORED)),
    (180, True): np.flipud(STORED),
    (270, True): np.fliplr(np.rot90(STORED, 3)),
}
"""All eight ways to lay a picture, by counter-clockwise turn and mirror."""


def display_matrix(path):
    with av.open(str(path)) as container:
        side_data = next(container.decode(video=0)).side_data
        return bytes(side_data.get(Type.DISPLAYMATRIX) or b"")


@pytest.mark.parametrize("turn", SHOWN, ids=str)
def test_pictures_are_upright_at_the_edge_and_recorded_as_they_are_stored(
    make_clip, tmp_path, turn
):
    degrees, mirrored = turn
    path = make_clip(frames=2, rotation=degrees, mirrored=mirrored, options={"crf": "1"})
    network = edgecar.FakeEngine(lambda batch: batch)
    with edgecar.Restorer(NOTHING, network) as nothing, edgecar.stream(path, nothing) as frames:
        streamed = next(iter(frames)).bgr
    capture = edgecar.VideoCapture(path, network=NOTHING, engine=edgecar.FakeEngine(lambda b: b))
    captured = capture.read()[1]
    asked = capture.get(cv2.CAP_PROP_FRAME_HEIGHT), capture.get(cv2.CAP_PROP_FRAME_WIDTH)
    capture.release()
    for picture in (streamed, captured):
        assert picture.shape == SHOWN[turn].shape
        # Chroma of half the size: other orientations are off by 40 and more.
        assert np.abs(picture.astype(int) - SHOWN[turn]).mean() < 8
    assert asked == SHOWN[turn].shape[:2]
    if not mirrored:  # OpenCV does not mirror
        assert np.array_equal(captured, cv2.VideoCapture(str(path)).read()[1])
    assert {(frame.size, frame.orientation) for frame in read_all(path)[0]} == {((48, 64), turn)}
    for suffix in (".mp4", ".mkv", ".mov"):
        target = tmp_path / f"out{suffix}"
        assert not copied(path, target)
        assert display_matrix(target) == display_matrix(path)
