"""``edgecar.stream``: files and several sources through one restorer."""

import av
import numpy as np
import pytest

import edgecar
from edgecar.errors import ArtifactError, EngineError, MediaError, SettingsError
from edgecar.media.reader import open_reader
from edgecar.media.scene import write_scene
from edgecar.runtime.restorer import Restorer
from tests.test_public_api import in_a_fresh_interpreter


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for name, size in (("front", (480, 640)), ("gate", (400, 560))):
        write_scene(folder / f"{name}.mp4", size, 10, 35)
    return folder


@pytest.fixture(scope="module")
def restorer():
    with Restorer("edgecar-xs", codec="h264") as opened:
        yield opened


def test_a_file_comes_out_restored_frame_by_frame(clips, restorer):
    path = clips / "front.mp4"
    full = Restorer("edgecar-xs", codec="h264", reuse=False)
    coded = open_reader(path, read_coding=True)
    with edgecar.stream(path, restorer) as frames, coded, full:
        for frame, before in zip(frames, coded, strict=True):
            expected = full.restore(before)
            np.testing.assert_array_equal(frame.frame.y, expected.y)
            assert frame.pts == before.pts
            assert frame.bgr.shape == (480, 640, 3)
            assert frame.restored
        assert frame.stats.frames_restored == 10


def test_several_sources_share_a_restorer(clips, restorer):
    sources = {"front": clips / "front.mp4", "gate": clips / "gate.mp4"}
    with edgecar.stream(sources, restorer) as frames:
        seen = [(frame.camera, frame.frame.size) for frame in frames]
    assert sorted(seen) == [("front", (480, 640))] * 10 + [("gate", (400, 560))] * 10


def test_what_cannot_be_is_refused(clips, restorer):
    sources = {"front": clips / "front.mp4", "gone": clips / "gone.mp4"}
    with pytest.raises(MediaError, match="does not exist"):
        edgecar.stream(sources, restorer)
    with pytest.raises(SettingsError, match="max_latency_ms"):
        edgecar.stream(clips / "front.mp4", restorer, max_latency_ms=-1)


def test_finely_coded_frames_pass(clips, restorer):
    with edgecar.stream(clips / "front.mp4", restorer, skip_below_qp=52) as frames:
        assert not any(frame.restored for frame in frames)


def test_without_a_restorer_one_is_opened_for_the_coder_and_closed_at_the_end(clips):
    frames = edgecar.stream(clips / "gate.mp4")  # without a block
    engine = frames._restorer.engine
    assert frames._restorer.metadata.coder == "h264"
    assert [frame.restored for frame in frames] == [True] * 10
    with pytest.raises(EngineError, match="closed"):
        engine.run(np.zeros((1, 1, 8, 8), np.float32))


def test_sources_of_different_coders_need_a_restorer(clips, tmp_path):
    with av.open(str(tmp_path / "yard.avi"), "w") as output:
        coder = output.add_stream("mjpeg", rate=25, width=64, height=48)
        coder.pix_fmt = "yuvj420p"
        output.mux(coder.encode(av.VideoFrame(64, 48, "yuvj420p")))
        output.mux(coder.encode(None))
    with pytest.raises(ArtifactError, match="weights for h264 and jpeg"):
        edgecar.stream({"gate": clips / "gate.mp4", "yard": tmp_path / "yard.avi"})


def test_a_program_that_ends_before_its_loop_began_ends_well(clips):
    script = f"import edgecar; frames = edgecar.stream({str(clips / 'gate.mp4')!r})\nprint('end')"
    assert in_a_fresh_interpreter(script) == "end"
