import errno
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from edgecar.errors import MediaError
from edgecar.evaluate.metrics import psnr
from edgecar.media.pictures import (
    is_grey,
    is_picture,
    jpeg_coded,
    list_pictures,
    read_picture,
    write_picture,
)

PHOTO = np.ascontiguousarray(cv2.resize(data.coffee(), (60, 41))[..., ::-1])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".PNG"])
def test_lossless_pictures_come_back_exactly(tmp_path, suffix):
    path = tmp_path / "new folder" / f"a{suffix}"
    write_picture(path, PHOTO)
    assert np.array_equal(read_picture(path), PHOTO)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_quality_is_passed_on(tmp_path, suffix):
    errors = []
    for quality in (10, 95):
        write_picture(tmp_path / f"a{suffix}", PHOTO, quality)
        errors.append(np.abs(read_picture(tmp_path / f"a{suffix}").astype(int) - PHOTO).mean())
    assert errors[1] < errors[0] / 2


def test_grey_is_read_as_three_equal_channels(tmp_path):
    grey = data.camera()[:50, :70]
    write_picture(tmp_path / "grey.png", grey)
    picture = read_picture(tmp_path / "grey.png")
    assert is_grey(picture)
    assert np.array_equal(picture[..., 0], grey)
    assert not is_grey(PHOTO)


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    codes = np.arange(0, 65536, 7, dtype=np.uint16)[None]
    cv2.imwrite(str(tmp_path / "deep.png"), codes)
    assert np.array_equal(read_picture(tmp_path / "deep.png")[0, :, 0], np.rint(codes[0] / 257))


def test_alpha_is_dropped(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([PHOTO, np.full(PHOTO.shape[:2], 7, np.uint8)]))
    assert np.array_equal(read_picture(tmp_path / "a.png"), PHOTO)


def test_floating_point_pictures_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.tiff"), np.zeros((4, 4, 3), np.float32))
    with pytest.raises(MediaError, match=r"float32.*need 8 or 16 bits"):
        read_picture(tmp_path / "a.tiff")


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n cut"])
def test_unreadable_pictures_are_explained(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.png is not a picture or is damaged; give"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_missing_pictures_and_folders_are_explained(tmp_path, name):
    with pytest.raises(MediaError, match="cannot be read"):
        read_picture(tmp_path / name)


@pytest.mark.parametrize("name", ["a.gif", "a", "a.mp4"])
def test_unknown_suffixes_are_refused_with_the_known_ones(tmp_path, name):
    with pytest.raises(MediaError, match=r"need one of .*\.png"):
        write_picture(tmp_path / name, PHOTO)


@pytest.mark.parametrize("quality", [0, 101])
def test_quality_out_of_range_is_refused(tmp_path, quality):
    with pytest.raises(MediaError, match="give 1 to 100"):
        write_picture(tmp_path / "a.jpg", PHOTO, quality)


def test_a_full_disk_leaves_the_old_picture(tiny_disk):
    path = tiny_disk / "a.png"
    write_picture(path, PHOTO)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    with pytest.raises(MediaError, match="No space left"):
        write_picture(path, noise)
    assert np.array_equal(read_picture(path), PHOTO)
    assert list(tiny_disk.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(MediaError, match=r"a\.png cannot be written \(No space left on device\)"):
        write_picture(tmp_path / "a.png", PHOTO)
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_a_folder_are_listed_by_name(tmp_path):
    for name in ("b.JPG", "a.png", "c.txt", "d.webp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.png", "b.JPG", "d.webp"]
    assert is_picture("x/y.TIF")
    assert not is_picture("clip.mp4")


def test_folders_without_pictures_are_explained(tmp_path):
    with pytest.raises(MediaError, match="holds no picture"):
        list_pictures(tmp_path)
    with pytest.raises(MediaError, match="is not a folder"):
        list_pictures(tmp_path / "missing")


@pytest.mark.parametrize(
    ("suffix", "largest"), [(".jpg", 65500), (".jpeg", 65500), (".JPG", 65500), (".webp", 16383)]
)
@pytest.mark.parametrize("upright", [True, False])
def test_size_that_a_format_cannot_hold_is_one_line(suffix, largest, upright, tmp_path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"an older one")
    for size in (largest, largest + 1):
        picture = np.zeros((size, 1, 3) if upright else (1, size, 3), np.uint8)
        if size == largest:
            write_picture(tmp_path / f"fits{suffix}", picture)
            continue
        with pytest.raises(MediaError, match=rf"cannot hold .* at most {largest} a side; use .png"):
            write_picture(path, picture)
    assert path.read_bytes() == b"an older one"


CAMERA = np.ascontiguousarray(data.camera()[100:260, 100:300])


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
