"""Colour profile, EXIF, transparency and pages of pictures through `edgecar run`, by Pillow."""

import struct
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from skimage import data

import edgecar
from edgecar.artifact import Artifact, Metadata
from edgecar.media.inputs import open_input
from edgecar.runtime.cameras import Job
from edgecar.runtime.job import run_opened

NOTHING = Artifact(Metadata("none", 1, 2, 1, "local", 8, "fp32", "", "", 0.0, 0.0), b"")
PHOTO = cv2.resize(data.coffee(), (60, 40), interpolation=cv2.INTER_AREA)
ALPHA = np.linspace(0, 255, PHOTO[..., 0].size).astype(np.uint8).reshape(PHOTO.shape[:2])
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ORIENTATION, MAKER = 274, 271


def restored(source, target):
    """Run a network that changes nothing; the warnings."""
    with edgecar.Restorer(NOTHING, edgecar.FakeEngine(lambda batch: batch)) as restorer:
        job = Job(str(source), str(target))
        report = run_opened(job, [open_input(str(source))], restorer, lambda *_: None)
    return dict(report.warnings)


def opened(path):
    picture = Image.open(path)
    picture.load()
    return picture


def exif(orientation):
    notes = Image.Exif()
    notes[ORIENTATION], notes[MAKER] = orientation, "Gate camera"
    return notes


@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.jpeg", "out.webp"])
@pytest.mark.parametrize("source", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_a_colour_profile_is_kept(tmp_path, source, target):
    Image.fromarray(PHOTO).save(tmp_path / source, icc_profile=PROFILE)
    assert restored(tmp_path / source, tmp_path / target) == {}
    assert opened(tmp_path / target).info["icc_profile"] == PROFILE


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("source", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_orientation_is_applied_once_and_the_rest_of_exif_kept(tmp_path, source, orientation):
    Image.fromarray(PHOTO).save(tmp_path / source, exif=exif(orientation), quality=95)
    warnings = restored(tmp_path / source, tmp_path / "out.png")
    before, after = opened(tmp_path / source), opened(tmp_path / "out.png")
    assert after.getexif().get(ORIENTATION, 1) == 1
    expected = np.asarray(ImageOps.exif_transpose(before).convert("RGB"), int)
    shown = np.asarray(ImageOps.exif_transpose(after).convert("RGB"), int)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() < 3
    if source != "a.tif":
        assert after.getexif()[MAKER] == "Gate camera"
        assert warnings == {}


def test_a_preview_in_exif_that_shows_the_unrestored_picture_goes(tmp_path):
    code = BytesIO()
    Image.fromarray(PHOTO).resize((16, 12)).save(code, "JPEG")
    notes = exif(6)
    notes.get_ifd(1).update({259: 6, 513: 0, 514: len(code.getvalue())})
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", exif=notes)
    restored(tmp_path / "a.jpg", tmp_path / "out.jpg")
    assert not opened(tmp_path / "out.jpg").getexif().get_ifd(1)


@pytest.mark.parametrize("target", ["out.png", "out.webp"])
@pytest.mark.parametrize(
    ("source", "options"),
    [("a.png", {}), ("a.webp", {"lossless": True, "exact": True}), ("a.tif", {})],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_transparency_is_kept(tmp_path, source, options, target, orientation):
    if source == "a.tif":
        orientation = 1
    picture = Image.fromarray(np.dstack([PHOTO, ALPHA]))
    picture.save(tmp_path / source, exif=exif(orientation), **options)
    warnings = restored(tmp_path / source, tmp_path / target)
    assert warnings == {}
    after = opened(tmp_path / target)
    assert after.mode == "RGBA"
    expected = ImageOps.exif_transpose(opened(tmp_path / source))
    assert np.array_equal(np.asarray(after)[..., 3], np.asarray(expected)[..., 3])


@pytest.mark.parametrize("target", ["out.jpg", "out.bmp"])
def test_what_a_format_does_not_take_is_named(tmp_path, target):
    picture = Image.fromarray(np.dstack([PHOTO, ALPHA]))
    picture.save(tmp_path / "a.png", icc_profile=PROFILE, exif=exif(1))
    warnings = restored(tmp_path / "a.png", tmp_path / target)
    suffix = target[3:]
    lost = {} if suffix == ".jpg" else {"ICC profile lost": 1, "EXIF lost": 1}
    assert warnings == {f"transparency is not stored in {suffix}": 1, **lost}


@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.webp"])
def test_xmp_of_a_tiff_is_kept_and_its_resolution_named(tmp_path, target):
    words = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    picture = Image.fromarray(PHOTO)
    picture.save(tmp_path / "a.tif", dpi=(300, 300), tiffinfo={700: words})
    assert restored(tmp_path / "a.tif", tmp_path / target) == {"resolution in dpi lost": 1}
    assert opened(tmp_path / target).info["xmp"] == words


@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.webp"])
@pytest.mark.parametrize("source", ["a.jpg", "a.webp", "a.png"])
def test_xmp_is_where_readers_of_each_format_look_for_it(tmp_path, source, target):
    words, chunks = "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", PngImagePlugin.PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", words)
    more = {"pnginfo": chunks} if source == "a.png" else {"xmp": words.encode()}
    Image.fromarray(PHOTO).save(tmp_path / source, **more)
    assert restored(tmp_path / source, tmp_path / target) == {}
    assert opened(tmp_path / target).info["xmp"] == words.encode()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_resolution_is_kept_in_a_file_of_the_same_kind_else_named(tmp_path, suffix):
    source = tmp_path / f"a{suffix}"
    Image.fromarray(PHOTO).save(source, dpi=(300, 150))
    assert restored(source, tmp_path / f"out{suffix}") == {}
    assert opened(tmp_path / f"out{suffix}").info["dpi"] == pytest.approx((300, 150), abs=0.1)
    assert restored(source, tmp_path / "out.webp") == {"resolution in dpi lost": 1}
    Image.fromarray(PHOTO).save(source)
    assert restored(source, tmp_path / "out.webp") == {}


def test_gamma_and_primaries_of_a_png_are_kept_or_named(tmp_path):
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", 45455))
    chunks.add(b"cHRM", struct.pack(">8I", *range(31000, 39000, 1000)))
    Image.fromarray(PHOTO).save(tmp_path / "a.png", pnginfo=chunks)
    assert restored(tmp_path / "a.png", tmp_path / "out.png") == {}
    before, after = opened(tmp_path / "a.png"), opened(tmp_path / "out.png")
    assert after.info["gamma"] == before.info["gamma"] == 0.45455
    assert after.info["chromaticity"] == before.info["chromaticity"]
    assert np.array_equal(np.asarray(after), np.asarray(before))
    lost = {"gamma (gAMA) lost": 1, "primaries (cHRM) lost": 1}
    assert restored(tmp_path / "a.png", tmp_path / "out.jpg") == lost


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_further_pictures_in_a_file_are_named(tmp_path, name):
    pages = [Image.fromarray(np.roll(PHOTO, 9 * n, 1)) for n in range(3)]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    warnings = restored(tmp_path / name, tmp_path / "out.png")
    assert warnings == {"only the first of 3 pictures in a file restored": 1}


@pytest.mark.parametrize(
    ("mode", "codes", "words"),
    [
        ("L", PHOTO[..., 0], {}),
        ("I;16", PHOTO[..., 0].astype(np.uint16) * 257, {"16-bit samples rounded to 8 bits": 1}),
    ],
)
def test_grey_stays_grey(tmp_path, mode, codes, words):
    Image.fromarray(codes).save(tmp_path / "a.png")
    assert opened(tmp_path / "a.png").mode == mode
    assert restored(tmp_path / "a.png", tmp_path / "out.png") == words
    assert opened(tmp_path / "out.png").mode == "L"
    assert np.array_equal(np.asarray(opened(tmp_path / "out.png")), PHOTO[..., 0])


def test_a_profile_for_other_channels_is_not_written(tmp_path):
    """A printer's JPEG of four inks becomes a picture of red, green and blue."""
    profile = PROFILE[:16] + b"CMYK" + PROFILE[20:]
    Image.fromarray(PHOTO).convert("CMYK").save(tmp_path / "a.jpg", icc_profile=profile)
    assert restored(tmp_path / "a.jpg", tmp_path / "out.png") == {"ICC profile lost": 1}
    assert "icc_profile" not in opened(tmp_path / "out.png").info


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.ppm", "a.pgm", "a.dib"])
def test_pictures_by_rarer_names_are_pictures(tmp_path, name):
    picture = Image.fromarray(PHOTO if name != "a.pgm" else PHOTO[..., 0])
    picture.save(tmp_path / name, {"j": "JPEG", "d": "BMP", "p": "PPM"}[name[2]])
    assert restored(tmp_path / name, tmp_path / "out.png") == {}
    assert opened(tmp_path / "out.png").size == picture.size
