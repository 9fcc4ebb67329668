"""Pictures: read, written, coded as JPEG; what is kept beside their colours, by Pillow's eyes."""

import errno
import struct
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from skimage import data

import edgecar
from edgecar.artifact import Artifact
from edgecar.errors import MediaError
from edgecar.evaluate.metrics import psnr
from edgecar.media.inputs import open_input
from edgecar.media.pictures import is_grey, jpeg_coded, list_pictures, read_picture, write_picture
from edgecar.metadata import Metadata
from edgecar.runtime.cameras import Job
from edgecar.runtime.job import run_opened

NOTHING = Artifact(Metadata("none", 1, 2, 1, "local", 8, "fp32", "", "", 0.0, 0.0), b"")
RGB = cv2.resize(data.coffee(), (60, 40), interpolation=cv2.INTER_AREA)
BGR = np.ascontiguousarray(RGB[..., ::-1])
ALPHA = np.linspace(0, 255, RGB[..., 0].size).astype(np.uint8).reshape(RGB.shape[:2])
CAMERA = np.ascontiguousarray(data.camera()[100:260, 100:300])
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
ORIENTATION, MAKER = 274, 271


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".PNG"])
def test_lossless_pictures_come_back_exactly(tmp_path, suffix):
    path = tmp_path / "new folder" / f"a{suffix}"
    write_picture(path, BGR)
    assert np.array_equal(read_picture(path), BGR)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_quality_is_passed_on(tmp_path, suffix):
    errors = []
    for quality in (10, 95):
        write_picture(tmp_path / f"a{suffix}", BGR, quality)
        errors.append(np.abs(read_picture(tmp_path / f"a{suffix}").astype(int) - BGR).mean())
    assert errors[1] < errors[0] / 2


def test_grey_becomes_three_channels_sixteen_bits_eight_and_alpha_is_dropped(tmp_path):
    path = tmp_path / "a.png"
    write_picture(path, CAMERA)
    assert is_grey(read_picture(path))
    assert np.array_equal(read_picture(path)[..., 0], CAMERA)
    assert not is_grey(BGR)
    codes = np.arange(0, 65536, 7, dtype=np.uint16)[None]
    cv2.imwrite(str(path), codes)
    assert np.array_equal(read_picture(path)[0, :, 0], np.rint(codes[0] / 257))
    cv2.imwrite(str(path), np.dstack([BGR, np.full(BGR.shape[:2], 7, np.uint8)]))
    assert np.array_equal(read_picture(path), BGR)


DAMAGED = r"a\.png is not a picture or is damaged; give"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", b"", DAMAGED),
        ("a.png", b"not a picture", DAMAGED),
        ("a.png", b"\x89PNG\r\n\x1a\n cut", DAMAGED),
        ("missing.png", None, "cannot be read"),
        (".", None, "cannot be read"),
        (
            "a.tiff",
            cv2.imencode(".tiff", np.zeros((4, 4, 3), np.float32))[1].tobytes(),
            r"float32.*need 8 or 16 bits",
        ),
    ],
)
def test_unreadable_pictures_are_explained(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=words):
        read_picture(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "quality", "words"),
    [
        ("a.gif", 95, r"need one of .*\.png"),
        ("a", 95, r"need one of .*\.png"),
        ("a.mp4", 95, r"need one of .*\.png"),
        ("a.jpg", 0, "give 1 to 100"),
        ("a.jpg", 101, "give 1 to 100"),
    ],
)
def test_what_cannot_be_written_is_refused_with_what_can(tmp_path, name, quality, words):
    with pytest.raises(MediaError, match=words):
        write_picture(tmp_path / name, BGR, quality)


def test_a_full_disk_leaves_the_old_picture(tiny_disk):
    path = tiny_disk / "a.png"
    write_picture(path, BGR)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    with pytest.raises(MediaError, match="No space left"):
        write_picture(path, noise)
    assert np.array_equal(read_picture(path), BGR)
    assert list(tiny_disk.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(MediaError, match=r"a\.png cannot be written \(No space left on device\)"):
        write_picture(tmp_path / "a.png", BGR)
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_a_folder_are_listed_by_name(tmp_path):
    with pytest.raises(MediaError, match="holds no picture"):
        list_pictures(tmp_path)
    with pytest.raises(MediaError, match="is not a folder"):
        list_pictures(tmp_path / "missing")
    for name in ("b.JPG", "a.png", "c.txt", "d.webp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.png", "b.JPG", "d.webp"]


@pytest.mark.parametrize(
    ("suffix", "largest"), [(".jpg", 65500), (".jpeg", 65500), (".JPG", 65500), (".webp", 16383)]
)
@pytest.mark.parametrize("upright", [True, False])
def test_size_that_a_format_cannot_hold_is_one_line(suffix, largest, upright, tmp_path):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"an older one")
    fits, too_large = (
        np.zeros((size, 1, 3) if upright else (1, size, 3), np.uint8)
        for size in (largest, largest + 1)
    )
    write_picture(tmp_path / f"fits{suffix}", fits)
    with pytest.raises(MediaError, match=rf"cannot hold .* at most {largest} a side; use .png"):
        write_picture(path, too_large)
    assert path.read_bytes() == b"an older one"


@pytest.mark.parametrize("coder", ["opencv", "pillow"])
def test_jpeg_degrades_and_quality_helps(coder):
    given = CAMERA.copy()
    coded = [jpeg_coded(given[:, ::-1], quality, coder) for quality in (10, 25, 40, 90)]
    assert np.array_equal(given, CAMERA)
    scores = [psnr(CAMERA[:, ::-1], picture) for picture in coded]
    assert scores == sorted(scores)
    assert scores[0] < 32
    assert scores[-1] < 50  # no quality leaves this picture as it was
    for quality in (0, 101, -5):
        with pytest.raises(MediaError, match=f"quality {quality} is not in 1 to 100"):
            jpeg_coded(CAMERA, quality, coder)


def test_each_coder_is_the_library_of_its_name(monkeypatch):
    opencv = jpeg_coded(CAMERA, 35)
    monkeypatch.setattr(cv2, "imencode", None)
    pillow, file = jpeg_coded(CAMERA, 35, "pillow"), BytesIO()
    Image.fromarray(CAMERA).save(file, "JPEG", quality=35)
    expected = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_GRAYSCALE)
    # The same file; inverse transforms of two decoders differ by a rounding.
    assert np.abs(pillow.astype(int) - expected).max() <= 1
    # Both have the standard's tables: their difference is ten times below the error of coding.
    assert psnr(opencv, pillow) > psnr(CAMERA, opencv) + 10
    with pytest.raises(TypeError):
        jpeg_coded(CAMERA, 35, "opencv")


@pytest.fixture
def restored(tmp_path):
    """Saves a picture, runs a network that changes nothing; warnings, picture before and after."""

    def restore(picture, source, target, **options):
        picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        picture.save(tmp_path / source, **options)
        with edgecar.Restorer(NOTHING, edgecar.FakeEngine(lambda batch: batch)) as restorer:
            job = Job(str(tmp_path / source), str(tmp_path / target))
            sources = [open_input(str(tmp_path / source))]
            report = run_opened(job, sources, restorer, lambda *_: None)
        before, after = (Image.open(tmp_path / name) for name in (source, target))
        before.load()
        after.load()
        return dict(report.warnings), before, after

    return restore


def exif(orientation):
    notes = Image.Exif()
    notes[ORIENTATION], notes[MAKER] = orientation, "Gate camera"
    return notes


@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.jpeg", "out.webp"])
@pytest.mark.parametrize("source", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_a_colour_profile_is_kept(restored, source, target):
    warnings, _, after = restored(RGB, source, target, icc_profile=PROFILE)
    assert warnings == {}
    assert after.info["icc_profile"] == PROFILE


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("source", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_orientation_is_applied_once_and_the_rest_of_exif_kept(restored, source, orientation):
    options = {"exif": exif(orientation), "quality": 95}
    warnings, before, after = restored(RGB, source, "out.png", **options)
    assert after.getexif().get(ORIENTATION, 1) == 1
    expected = np.asarray(ImageOps.exif_transpose(before).convert("RGB"), int)
    shown = np.asarray(ImageOps.exif_transpose(after).convert("RGB"), int)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() < 3
    if source != "a.tif":
        assert after.getexif()[MAKER] == "Gate camera"
        assert warnings == {}


def test_a_preview_in_exif_that_shows_the_unrestored_picture_goes(restored):
    code = BytesIO()
    Image.fromarray(RGB).resize((16, 12)).save(code, "JPEG")
    notes = exif(6)
    notes.get_ifd(1).update({259: 6, 513: 0, 514: len(code.getvalue())})
    _, _, after = restored(RGB, "a.jpg", "out.jpg", exif=notes)
    assert not after.getexif().get_ifd(1)


@pytest.mark.parametrize("target", ["out.png", "out.webp"])
@pytest.mark.parametrize(
    ("source", "orientation", "options"),
    [
        ("a.png", 1, {}),
        ("a.png", 6, {}),
        ("a.webp", 1, {"lossless": True, "exact": True}),
        ("a.webp", 6, {"lossless": True, "exact": True}),
        ("a.tif", 1, {}),
    ],
)
def test_transparency_is_kept(restored, source, options, target, orientation):
    rgba = np.dstack([RGB, ALPHA])
    warnings, before, after = restored(rgba, source, target, exif=exif(orientation), **options)
    assert warnings == {}
    assert after.mode == "RGBA"
    expected = ImageOps.exif_transpose(before)
    assert np.array_equal(np.asarray(after)[..., 3], np.asarray(expected)[..., 3])


@pytest.mark.parametrize(
    ("suffix", "lost"), [(".jpg", {}), (".bmp", {"ICC profile lost": 1, "EXIF lost": 1})]
)
def test_what_a_format_does_not_take_is_named(restored, suffix, lost):
    options = {"icc_profile": PROFILE, "exif": exif(1)}
    warnings, *_ = restored(np.dstack([RGB, ALPHA]), "a.png", f"out{suffix}", **options)
    assert warnings == {f"transparency is not stored in {suffix}": 1, **lost}


@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.webp"])
@pytest.mark.parametrize("source", ["a.jpg", "a.webp", "a.png", "a.tif"])
def test_xmp_is_where_readers_of_each_format_look_for_it(restored, source, target):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", XMP)
    in_tiff = {"dpi": (300, 300), "tiffinfo": {700: XMP.encode()}}
    options = {"a.png": {"pnginfo": chunks}, "a.tif": in_tiff}.get(source, {"xmp": XMP.encode()})
    warnings, _, after = restored(RGB, source, target, **options)
    assert warnings == ({"resolution in dpi lost": 1} if source == "a.tif" else {})
    assert after.info["xmp"] == XMP.encode()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_resolution_is_kept_in_a_file_of_the_same_kind_else_named(restored, suffix):
    warnings, _, after = restored(RGB, f"a{suffix}", f"out{suffix}", dpi=(300, 150))
    assert warnings == {}
    assert after.info["dpi"] == pytest.approx((300, 150), abs=0.1)
    lost, *_ = restored(RGB, f"a{suffix}", "out.webp", dpi=(300, 150))
    assert lost == {"resolution in dpi lost": 1}
    assert restored(RGB, f"a{suffix}", "out.webp")[0] == {}


def test_gamma_and_primaries_of_a_png_are_kept_or_named(restored):
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", 45455))
    chunks.add(b"cHRM", struct.pack(">8I", *range(31000, 39000, 1000)))
    warnings, before, after = restored(RGB, "a.png", "out.png", pnginfo=chunks)
    assert warnings == {}
    assert after.info["gamma"] == before.info["gamma"] == 0.45455
    assert after.info["chromaticity"] == before.info["chromaticity"]
    assert np.array_equal(np.asarray(after), np.asarray(before))
    lost, *_ = restored(RGB, "a.png", "out.jpg", pnginfo=chunks)
    assert lost == {"gamma (gAMA) lost": 1, "primaries (cHRM) lost": 1}


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_further_pictures_in_a_file_are_named(restored, name):
    pages = [Image.fromarray(np.roll(RGB, 9 * n, 1)) for n in range(1, 3)]
    warnings, *_ = restored(RGB, name, "out.png", save_all=True, append_images=pages)
    assert warnings == {"only the first of 3 pictures in a file restored": 1}


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (RGB[..., 0], {}),
        (RGB[..., 0].astype(np.uint16) * 257, {"16-bit samples rounded to 8 bits": 1}),
    ],
)
def test_grey_stays_grey(restored, codes, words):
    warnings, _, after = restored(codes, "a.png", "out.png")
    assert warnings == words
    assert after.mode == "L"
    assert np.array_equal(np.asarray(after), RGB[..., 0])


def test_a_profile_for_other_channels_is_not_written(restored):
    """A printer's JPEG of four inks becomes a picture of red, green and blue."""
    profile = PROFILE[:16] + b"CMYK" + PROFILE[20:]
    inks = Image.fromarray(RGB).convert("CMYK")
    warnings, _, after = restored(inks, "a.jpg", "out.png", icc_profile=profile)
    assert warnings == {"ICC profile lost": 1}
    assert "icc_profile" not in after.info


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.ppm", "a.pgm", "a.dib"])
def test_pictures_by_rarer_names_are_pictures(restored, name):
    kind = {"j": "JPEG", "d": "BMP", "p": "PPM"}[name[2]]
    picture = RGB[..., 0] if name == "a.pgm" else RGB
    warnings, before, after = restored(picture, name, "out.png", format=kind)
    assert warnings == {}
    assert after.size == before.size
