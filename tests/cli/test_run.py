"""``edgecar run`` on good and bad input."""

import json
import re
import shutil
import socket
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.media.color import bgr_from_frame
from edgecar.media.facts import StreamFacts
from edgecar.media.frame import Frame
from edgecar.media.pictures import read_picture
from edgecar.media.reader import open_reader
from edgecar.media.scene import BT709, fixed_camera
from edgecar.media.writer import open_writer
from edgecar.runtime import stream_cache
from edgecar.runtime.restorer import Restorer

NETWORK = "edgecar-s"
REPORT_KEYS = {
    "frames", "fps", "seconds", "windows_run", "computed_share", "engine", "provider", "precision",
    "input_codec", "restored", "passed", "passed_because", "weights_for", "trained_on",
    "warnings", "frames_compared", "psnr_to_exact_db", "shipped", "engine_note", "quantiser",
    "quantiser_moves", "quantiser_unknown_frames",
}  # fmt: skip


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "camera.mp4"
    photo = np.ascontiguousarray(data.coffee()[:180, :240, ::-1])
    facts = StreamFacts((180, 240), Fraction(25), Fraction(1, 25), BT709)
    with open_writer(path, like=facts, crf=35) as writer:
        for frame in fixed_camera(photo, [photo[60:120, 60:130]], 12):
            writer.write(frame)
    return path


@pytest.fixture
def jpeg(tmp_path) -> Path:
    path = tmp_path / "photo.jpg"
    picture = np.ascontiguousarray(data.astronaut()[:200, :231, ::-1])
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 10])
    return path


def test_clip_report_has_the_contract_keys(edgecar, clip):
    done = edgecar("run", clip, "-o", "null", "--network", NETWORK, "--json")
    assert done.code == 0
    report = json.loads(done.out)
    assert set(report) == REPORT_KEYS | {"stats"}
    assert report["stats"]["frames"]["restored"] == report["frames"] == 12
    assert report["windows_run"] >= 12
    assert 0 < report["computed_share"] < 1  # only what the moving cut-out changes
    assert report["precision"] in ("fp32", "bf16")


def test_counters_go_to_a_file_and_finely_coded_frames_pass(edgecar, clip, tmp_path):
    counters = tmp_path / "stats.json"
    options = ("--stats-json", counters, "--skip-below-qp", "52", "--network", NETWORK)
    assert edgecar("run", clip, "-o", "null", *options).code == 0
    counted = json.loads(counters.read_text())
    assert counted["frames"] == {
        "read": 12, "restored": 0, "passed": 12, "dropped": 0, "in_flight": 0, "corrupt": 0,
    }  # fmt: skip
    assert counted["passed_because"] == {"below_qp": 12}
    assert 20 < counted["qp"] < 45  # the clip was made with CRF 35


def test_several_videos_share_an_engine_and_get_a_file_each(edgecar, clip, tmp_path):
    other, counters = tmp_path / "gate.mp4", tmp_path / "stats.json"
    shutil.copy(clip, other)
    folder = tmp_path / "clean"
    done = edgecar("run", clip, other, "-o", folder, "--network", NETWORK, "--stats-json", counters)
    assert done.code == 0, done.err
    assert {path.name for path in folder.iterdir()} == {"camera.mp4", "gate.mp4"}
    for path in folder.iterdir():
        with open_reader(path) as restored:
            assert sum(1 for _ in restored) == 12
    counted = json.loads(counters.read_text())
    assert {name: each["frames"]["restored"] for name, each in counted.items()} == {
        "camera": 12,
        "gate": 12,
    }


def test_several_videos_need_a_folder(edgecar, clip, tmp_path):
    done = edgecar("run", clip, clip, "-o", tmp_path / "clean.mp4", "--network", NETWORK)
    assert done.code == 1
    assert "is one file for 2 videos; give a folder, or null" in done.err


def test_pictures_are_not_run_beside_videos(edgecar, clip, jpeg):
    done = edgecar("run", clip, jpeg, "-o", "null", "--network", NETWORK, "--for", "h264")
    assert done.code == 1
    assert "pictures are among several inputs" in done.err


def test_inputs_that_need_different_weights_are_not_run_together(edgecar, clip, jpeg):
    done = edgecar("run", clip, jpeg, "-o", "null", "--network", NETWORK)
    assert done.code == 1
    assert "the inputs need weights for h264 and jpeg; run them apart" in done.err


def test_metrics_are_served_while_it_runs(edgecar, clip, monkeypatch):
    scraped = []
    restore = Restorer.begin

    def scraping(self, frames, *others):
        deadline = time.monotonic() + 20
        while not scraped and time.monotonic() < deadline:  # until the server is there
            with (
                suppress(URLError),
                urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer,
            ):
                scraped.append(answer.read().decode())
        return restore(self, frames, *others)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(Restorer, "begin", scraping)
    options = ("--metrics-port", str(port), "--network", NETWORK)
    assert edgecar("run", clip, "-o", "null", *options).code == 0
    assert 'edgecar_frames_read_total{camera_name="camera"}' in scraped[0]


def test_reuse_can_be_verified(edgecar, clip):
    done = edgecar("run", clip, "-o", "null", "--network", NETWORK, "--verify-reuse", "2")
    assert done.code == 0


@pytest.mark.parametrize(
    ("codes", "every", "told"),
    [("255", "3", r"[0-9.]+ dB, on 4 frame"), ("1", "0", r"not measured, .* 25 frames")],
)
def test_lossy_reuse_tells_its_price(edgecar, clip, codes, every, told):
    options = ("--reuse-tolerance", codes, "--verify-reuse", every)
    done = edgecar("run", clip, "-o", "null", "--network", NETWORK, *options)
    assert re.search(rf"lossy +changes of up to {codes} code.*against .* {told}", done.out)


def test_lossless_clip_holds_what_the_restorer_gives(edgecar, clip, tmp_path):
    output = tmp_path / "out" / "clean.mkv"
    arguments = ("--codec", "ffv1", "--network", NETWORK, "--for", "jpeg")
    assert edgecar("run", clip, "-o", output, *arguments).code == 0
    with (
        Restorer(NETWORK, codec="jpeg") as restorer,
        open_reader(clip, read_coding=True) as coded,
        open_reader(output) as restored,
    ):
        assert restored.rate == coded.rate
        for before, after in zip(coded, restored, strict=True):
            expected = restorer.restore(before)
            np.testing.assert_array_equal(after.y, expected.y)
            np.testing.assert_array_equal(after.u, before.u)
            assert after.colour == before.colour
            assert after.pts * after.time_base == before.pts * before.time_base


@pytest.mark.parametrize(("layout", "widths"), [("side", 2), ("split", 1)])
def test_compare_clip_shows_both(edgecar, clip, tmp_path, layout, widths):
    output = tmp_path / "clean.mp4"
    assert (
        edgecar(
            "run", clip, "-o", output, "--compare", "--layout", layout, "--network", NETWORK
        ).code
        == 0
    )
    with open_reader(tmp_path / "clean.compare.mp4") as both, open_reader(clip) as before:
        assert both.size == (180, 240 * widths)
        left = next(both).y[:, :100].astype(int)
        # H.264 at CRF 18 keeps the left part within a few codes of what was there before.
        assert np.abs(left - next(before).y[:, :100]).mean() < 3


def test_frames_limits_the_clip(edgecar, clip):
    done = edgecar("run", clip, "-o", "null", "--network", NETWORK, "--frames", 3, "--json")
    assert json.loads(done.out)["frames"] == 3


def test_reuse_changes_no_byte(edgecar, clip, tmp_path):
    for name, extra in (("on.mkv", ()), ("off.mkv", ("--no-reuse",))):
        output = tmp_path / name
        arguments = ("--codec", "ffv1", "--network", NETWORK, "--tile", "96x96", *extra)
        assert edgecar("run", clip, "-o", output, *arguments).code == 0
    with open_reader(tmp_path / "on.mkv") as on, open_reader(tmp_path / "off.mkv") as off:
        for one, other in zip(on, off, strict=True):
            np.testing.assert_array_equal(one.y, other.y)


def test_picture_is_cleaner_than_its_jpeg(edgecar, jpeg, tmp_path):
    output = tmp_path / "clean.png"
    done = edgecar(
        "run", jpeg, "-o", output, "--network", NETWORK, "--compare", "--layout", "split"
    )
    assert done.code == 0
    clean = data.astronaut()[:200, :231, ::-1].astype(float)
    before, after = (np.mean((read_picture(p) - clean) ** 2) for p in (jpeg, output))
    assert after < before
    assert read_picture(tmp_path / "clean.compare.png").shape == (200, 231, 3)


def test_folder_of_pictures_with_a_bad_one(edgecar, jpeg, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(jpeg.read_bytes())
    (folder / "bad.jpg").write_bytes(b"not a picture")
    done = edgecar("run", folder, "-o", tmp_path / "out", "--network", NETWORK, "--json")
    report = json.loads(done.out)
    assert report["frames"] == 1
    assert sum(report["warnings"].values()) == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.png"]


def test_pictures_of_one_stem_do_not_take_each_others_place(edgecar, jpeg, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "a.png", "b.jpg"):
        cv2.imwrite(str(folder / name), read_picture(jpeg))
    assert edgecar("run", folder, "-o", tmp_path / "out", "--network", NETWORK).code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.jpg.png", "a.png.png", "b.png"}


@pytest.mark.parametrize("single", [True, False])
def test_an_input_picture_is_never_overwritten(edgecar, jpeg, tmp_path, single):
    folder = tmp_path / "in"
    folder.mkdir()
    picture = folder / "a.png"
    cv2.imwrite(str(picture), read_picture(jpeg))
    before = picture.read_bytes()
    source = picture if single else folder
    done = edgecar("run", source, "-o", source, "--network", NETWORK)
    assert done.code == 1
    assert "is an input and would be lost" in done.err
    assert picture.read_bytes() == before


def test_interrupt_ends_a_live_recording_and_keeps_it(edgecar, clip, tmp_path, monkeypatch):
    calls = []
    restore = Restorer.begin

    def interrupted(self: Restorer, frames: list[Frame], *others: object) -> list[Frame]:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return restore(self, frames, *others)

    monkeypatch.setattr(Restorer, "begin", interrupted)
    monkeypatch.setattr("edgecar.media.reader.Reader.live", True)
    output = tmp_path / "camera.mp4"
    done = edgecar("run", clip, "-o", output, "--network", NETWORK, "--policy", "block")
    assert done.code == 0
    with open_reader(output) as recorded:
        assert sum(1 for _ in recorded) == 5


def damaged(path: Path, clip: Path, kind: str) -> Path:
    content = {
        "empty": b"",
        "text": b"hello, I am not a video\n" * 50,
        "headless": clip.read_bytes()[200:],
        "noise": np.random.default_rng(0).bytes(5000),
    }
    path.write_bytes(content[kind])
    return path


@pytest.mark.parametrize("kind", ["empty", "text", "headless", "noise"])
@pytest.mark.parametrize("suffix", [".mp4", ".jpg"])
def test_bad_input_is_one_line_and_leaves_nothing(edgecar, clip, tmp_path, kind, suffix):
    source = damaged(tmp_path / f"bad{suffix}", clip, kind)
    output = tmp_path / "out" / ("clean.mp4" if suffix == ".mp4" else "clean.png")
    done = edgecar("run", source, "-o", output, "--network", NETWORK)
    assert done.code == 1
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("edgecar: ")
    assert source.name in last
    assert "Traceback" not in done.err
    assert not list(tmp_path.glob("out/*"))


def test_damage_inside_a_clip_is_counted_and_the_rest_restored(edgecar, clip, tmp_path):
    content = bytearray(clip.read_bytes())
    start = content.index(b"mdat") + len(content) // 4
    for place in range(start, start + 400):
        content[place] ^= 0x5A
    source = tmp_path / "hurt.mp4"
    source.write_bytes(content)
    done = edgecar("run", source, "-o", tmp_path / "clean.mp4", "--network", NETWORK, "--json")
    assert done.code == 0
    report = json.loads(done.out)
    assert report["frames"] >= 6
    assert report["warnings"]
    with open_reader(tmp_path / "clean.mp4") as restored:
        assert sum(1 for _ in restored) == report["frames"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.mp4", "-o", "null"), "nowhere.mp4"),
        (("{clip}", "-o", "clean.xyz"), "clean.xyz"),
        (("{clip}", "-o", "null", "--compare"), "--compare needs an output file"),
        (("{clip}", "-o", "null", "--network", "nosuch"), "no weights ship for 'nosuch'"),
        (("{clip}", "-o", "null", "--engine", "abacus"), "no engine is called 'abacus'"),
        (("{clip}", "-o", "null", "--tile", "20x20"), "use a tile of at least"),
        (("{clip}", "-o", "null", "--tile", "big"), "size 'big' is not understood"),
        (("{clip}", "-o", "null", "--precision", "int8"), "leave --precision out"),
    ],
)
def test_mistakes_get_one_line(edgecar, clip, arguments, message):
    done = edgecar("run", *(str(word).format(clip=clip) for word in arguments))
    assert done.code == 1
    assert message in done.err.strip().splitlines()[-1]


def test_wrong_usage_is_code_two(edgecar, clip):
    assert edgecar("run", clip, "-o", "null", "--codec", "vp9").code == 2
    assert edgecar("run", clip).code == 2


def test_engine_failure_in_the_middle_leaves_nothing(edgecar, clip, tmp_path, monkeypatch):
    calls = []
    restore = Restorer.begin

    def failing(self: Restorer, frames: list[Frame], *others: object) -> list[Frame]:
        calls.append(1)
        if len(calls) == 5:
            from edgecar.errors import EngineError

            raise EngineError("the device was lost; plug it in")
        return restore(self, frames, *others)

    monkeypatch.setattr(Restorer, "begin", failing)
    done = edgecar("run", clip, "-o", tmp_path / "clean.mp4", "--network", NETWORK)
    assert done.code == 1
    assert done.err.strip().splitlines()[-1] == "edgecar: the device was lost; plug it in"
    assert not list(tmp_path.iterdir())


def test_interrupt_leaves_nothing(edgecar, clip, tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Restorer, "begin", interrupted)
    done = edgecar("run", clip, "-o", tmp_path / "clean.mp4", "--network", NETWORK)
    assert done.code == 130
    assert not list(tmp_path.iterdir())


def test_preview_of_a_frame_has_its_colours(clip):
    with open_reader(clip) as reader:
        bgr = bgr_from_frame(next(reader))
    photo = data.coffee()[:180, :240, ::-1].astype(float)
    # CRF 35 and 4:2:0 chroma blur the picture; a wrong matrix would shift it by tens of codes.
    assert np.abs(bgr.mean((0, 1)) - photo.mean((0, 1))).max() < 6


def test_reuse_that_changes_the_output_is_an_answer_of_no(edgecar, clip, monkeypatch):
    """Exit code 3, as of every check that ran and failed."""
    monkeypatch.setattr(
        stream_cache, "changed_cells", lambda known, _now, side, _: blind(known, side)
    )
    arguments = ("run", clip, "-o", "null", "--network", NETWORK, "--verify-reuse", "1")
    done = edgecar(*arguments, "--skip-below-qp", "0")
    assert done.code == 3
    assert len(done.err.strip().splitlines()[-1:]) == 1
    assert "other bytes than computing frame 2 in full" in done.err


def blind(known, side: int):
    """A map of cells on which nothing ever changes."""
    return np.zeros([-(-length // side) for length in known.shape[1:]], np.uint8)
