"""``edgecar run`` and ``batch`` tell networks the quantiser, and say which."""

import json
from pathlib import Path

import av
import pytest

from edgecar.media.reader import open_reader
from edgecar.media.video_codec import VideoCoding, decoded_clip, video_coded
from tests.cli.test_run import clip, jpeg  # noqa: F401  # fixtures


@pytest.fixture
def network_for(told, tmp_path):
    """A function that writes a network that takes the quantiser, trained on something."""

    def write(trained_on: str) -> Path:
        path = tmp_path / "told.onnx"
        path.write_bytes(told(trained_on).onnx)
        return path

    return write


def test_a_report_says_what_the_network_was_told(edgecar, clip, jpeg, network_for, tmp_path):  # noqa: F811
    network, stats = network_for("h264 crf 10-51"), tmp_path / "stats.json"
    run = ("run", clip, "-o", "null", "--network", network, "--stats-json", stats)
    done = edgecar(*run)
    slow = decoded_clip(clip.read_bytes()).quantisers
    qp = f"{round(51 * slow[-1], 1):g}"
    assert f"quantiser QP {qp} at the end, moved 0 time(s)\n" in done.out
    written = json.loads(stats.read_text())
    assert f"{written['quantiser']:g}" == qp
    assert written["quantiser_unknown_frames"] == 0
    assert "quantiser QP 12 at the end" in edgecar(*run, "--quantiser", 12).out
    network = network_for("jpeg 5-100")
    run = ("run", jpeg, "-o", tmp_path / "out.png", "--network", network)
    assert "quantiser quality 10 at the end" in edgecar(*run).out
    asked = json.loads(edgecar(*run, "--quantiser", 35, "--json").out)
    assert (asked["quantiser"], asked["quantiser_unknown_frames"]) == (35, 0)


def test_hevc_tells_the_quantiser_of_its_key_frames(edgecar, clip, network_for, tmp_path):  # noqa: F811
    path, stats = tmp_path / "a.mkv", tmp_path / "stats.json"
    with open_reader(clip) as reader:
        coded = video_coded(list(reader), VideoCoding("hevc", 40, preset="ultrafast"))
    path.write_bytes(coded.bitstream)
    network = network_for("hevc qp 10-51")
    edgecar("run", path, "-o", "null", "--network", network, "--stats-json", stats)
    written = json.loads(stats.read_text())
    assert 36 <= written["quantiser"] <= 39  # x265 codes key frames finer than the others
    assert written["quantiser_unknown_frames"] == 0


def test_what_states_no_qp_is_restored_as_in_the_middle_and_that_is_said(
    edgecar,
    clip,  # noqa: F811
    network_for,
    tmp_path,
):
    path = tmp_path / "a.avi"
    with av.open(str(clip)) as source, av.open(str(path), "w") as copy:
        shown = source.streams.video[0]
        stream = copy.add_stream("mpeg4", 25, width=shown.width, height=shown.height)
        copy.mux([packet for picture in source.decode(shown) for packet in stream.encode(picture)])
        copy.mux(stream.encode(None))
    network = network_for("h264 crf 10-51")
    done = edgecar("run", path, "-o", "null", "--network", network, "--for", "h264")
    assert (
        "quantiser QP 25.5 at the end, moved 0 time(s); not stated for 12 frame(s), which got the "
        "middle of the range: tell it with --quantiser\n"
    ) in done.out


@pytest.mark.parametrize(
    ("trained_on", "setting", "said"),
    [
        ("h264 crf 10-51", 52, "got quantiser 52; weights for h264 need a QP, 0 to 51"),
        ("jpeg 5-100", 0, "got quantiser 0; weights for jpeg need a whole JPEG quality, 1 to 100"),
        (None, 30, "got quantiser 30 for fastarcnn, which takes none; leave it out"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "batch"])
def test_a_quantiser_that_does_not_fit_is_refused(
    edgecar,
    clip,  # noqa: F811
    network_for,
    write_artifact,
    tmp_path,
    verb,
    trained_on,
    setting,
    said,
):
    network = (
        network_for(trained_on)
        if trained_on
        else write_artifact(tmp_path / "blind.onnx", "h264 crf 29-47", name="fastarcnn")
    )
    out, how = (tmp_path / "out", ["--ray", "none"]) if verb == "batch" else ("null", [])
    done = edgecar(verb, clip, "-o", out, "--network", network, "--quantiser", setting, *how)
    assert done.code == 1
    assert said in done.err.replace("\n", " ")
