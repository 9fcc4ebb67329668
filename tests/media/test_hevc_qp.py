"""QPs of HEVC's key frames, as x265 was told them."""

import av
import numpy as np
import pytest

from edgecar.media.hevc_qp import KeyFrameQp
from edgecar.media.reader import open_reader

# Key frames as coarse as the others, so that every frame has the QP asked for.
EVEN = "log-level=none:pools=1:frame-threads=1:ipratio=1:open-gop=0"


@pytest.fixture
def hevc(make_clip):
    def make(name="a.mp4", qp=33, *, more="", **options):
        coder = {"preset": "ultrafast", "g": "4", "x265-params": f"{EVEN}:qp={qp}{more}"}
        return make_clip(name, frames=8, codec="libx265", options=coder, **options)

    return make


def qps(path) -> list[float | None]:
    with open_reader(path, read_coding=True) as reader:
        return [frame.coding.qp for frame in reader]


@pytest.mark.parametrize("qp", [0, 12, 33, 51])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.265"])
def test_frames_have_the_qp_of_their_key_frame(hevc, name, qp) -> None:
    assert qps(hevc(name, qp)) == [qp] * 8


@pytest.mark.parametrize(
    "more",
    [
        ":scaling-list=default",
        ":no-sao=1",
        ":repeat-headers=1:aud=1:info=1",
        ":amp=1:rect=1:tskip=1",
        ":hrd=1:vbv-maxrate=900:vbv-bufsize=900",
        ":temporal-layers=3:bframes=3",
        ":slices=2",
        ":cbqpoffs=3:crqpoffs=-3",
        ":opt-qp-pps=1",
    ],
)
def test_headers_of_many_kinds_are_read(hevc, more) -> None:
    assert qps(hevc(qp=30, more=more, size=(130, 198))) == [30] * 8  # with a conformance window


@pytest.mark.parametrize(
    ("pixels", "qp"), [("gray", 30), ("yuv444p", 30), ("yuv422p10le", 30), ("yuv420p10le", 3)]
)
def test_other_planes_and_depths_are_read(hevc, pixels, qp) -> None:
    assert qps(hevc(qp=qp, pixels=pixels)) == [qp] * 8


def test_the_qp_changes_with_the_next_key_frame(hevc, tmp_path) -> None:
    parts = [hevc(f"{qp}.265", qp).read_bytes() for qp in (20, 45)]
    both = tmp_path / "both.265"
    both.write_bytes(b"".join(parts))
    assert set(qps(both)) == {20, 45}
    assert qps(both)[-1] == 45


def test_key_frames_of_open_groups_leave_the_qp_as_it_was(make_clip) -> None:
    coder = {
        "preset": "ultrafast",
        "g": "4",
        "x265-params": f"{EVEN}:qp=28".replace("gop=0", "gop=1"),
    }
    assert qps(make_clip("a.mkv", frames=8, codec="libx265", options=coder)) == [28] * 8


def test_what_was_not_sent_or_is_damaged_says_nothing(hevc) -> None:
    with av.open(str(hevc())) as container:
        stream = container.streams.video[0]
        parameters = stream.codec_context.extradata
        code = next(bytes(packet) for packet in container.demux(stream))
    for given in (None, b"", b"\1", parameters[:30]):
        alone = KeyFrameQp(given)
        alone.read(code)
        assert alone.qp is None
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = [bytearray(parameters), bytearray(code[:80])]
        for part in broken:
            part[rng.integers(len(part))] = rng.integers(256)
        damaged = KeyFrameQp(bytes(broken[0]))
        damaged.read(bytes(broken[1][: rng.integers(80)]))  # does not fail
