from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.bench.results import ROW_KEYS
from edgecar.errors import DataError, MediaError
from edgecar.evaluate.metrics import psnr, psnr_b, ssim
from edgecar.evaluate.stills import JpegRow, evaluate_jpeg, load_pictures, published_luma
from edgecar.evaluate.tables import published
from edgecar.media.color import paper_luma_from_bgr
from edgecar.media.pictures import jpeg_coded

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
PHOTO = np.ascontiguousarray(data.astronaut()[:96, 200:328, ::-1])  # BGR, 96×128
GREY = np.ascontiguousarray(data.camera()[:64, :80])


def unchanged(coded: np.ndarray) -> np.ndarray:
    return coded


def test_rows_average_over_the_set() -> None:
    pictures = [("a", GREY), ("b", GREY[::-1].copy())]
    rows = evaluate_jpeg(unchanged, pictures, (10, 40), network="none", set_name="two")
    assert [(row["network"], row["set"], row["quality"]) for row in rows] == [
        ("none", "two", 10),
        ("none", "two", 40),
    ]
    coded = [jpeg_coded(luma, 10) for _, luma in pictures]
    pairs = [(luma, picture) for (_, luma), picture in zip(pictures, coded, strict=True)]
    first = rows[0]
    assert first["psnr_in"] == np.mean([psnr(*pair) for pair in pairs])
    assert first["ssim_in"] == np.mean([ssim(*pair, window="uniform") for pair in pairs])
    assert first["psnrb_in"] == np.mean([psnr_b(*pair) for pair in pairs])
    for row in rows:
        assert row["psnr_out"] == row["psnr_in"]
        assert row["ssim_out"] == row["ssim_in"]
        assert row["psnrb_out"] == row["psnrb_in"]
    assert rows[1]["psnr_in"] > first["psnr_in"] + 3  # four times the quality is seen


def test_the_restored_picture_is_measured_not_the_coded_one() -> None:
    def smooth(coded: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(coded, (0, 0), 0.8)

    row = evaluate_jpeg(smooth, [("a", GREY)], [10], network="blur", set_name="one")[0]
    restored = smooth(jpeg_coded(GREY, 10))
    assert row["psnr_out"] == psnr(GREY, restored) != row["psnr_in"]
    assert row["ssim_out"] == ssim(GREY, restored, window="uniform") != row["ssim_in"]
    assert row["psnrb_out"] == psnr_b(GREY, restored) > row["psnrb_in"]  # it takes blocks away


def test_rows_fit_a_result_file() -> None:
    assert set(JpegRow.__annotations__) == ROW_KEYS["jpeg"]


def test_a_restorer_that_changes_the_size_is_explained() -> None:
    with pytest.raises(DataError, match="pictures of one size"):
        evaluate_jpeg(lambda p: p[:-1], [("a", GREY)], [10], network="n", set_name="s")
    with pytest.raises(DataError, match="set s holds no picture"):
        evaluate_jpeg(unchanged, [], [10], network="n", set_name="s")


def test_grey_and_colour_files_are_told_apart(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), GREY)
    cv2.imwrite(str(tmp_path / "tripled.png"), np.repeat(GREY[:, :, None], 3, axis=2))
    cv2.imwrite(str(tmp_path / "photo.bmp"), PHOTO)
    (tmp_path / "readme.txt").write_text("not a picture")
    pictures = dict(load_pictures(tmp_path))
    assert list(pictures) == ["grey", "photo", "tripled"]
    np.testing.assert_array_equal(pictures["grey"], GREY)
    np.testing.assert_array_equal(pictures["tripled"], GREY)
    np.testing.assert_array_equal(pictures["photo"], paper_luma_from_bgr(PHOTO))


def test_unfit_folders_and_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="holds no picture"):
        load_pictures(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"not a png")
    with pytest.raises(MediaError, match=r"broken\.png is not a picture"):
        load_pictures(tmp_path)


def test_a_colour_picture_is_not_grey_for_one_pixel() -> None:
    tripled = np.repeat(GREY[:, :, None], 3, axis=2)
    tripled[5, 6, 2] ^= 1
    assert abs(int(published_luma(tripled)[0, 0]) - int(GREY[0, 0])) > 1  # now of limited range


# Columns that the MSFAN paper lacks, from the tables of FBCNN (Jiang et al., ICCV 2021) and others:
# PSNR-B, and SSIM with the Gaussian window.
PSNR_B = {
    "Classic5": {10: "25.21", 20: "27.50", 30: "28.94", 40: "29.92"},
    "LIVE1": {10: "25.33", 20: "27.57", 30: "28.92", 40: "29.96"},
}
GAUSSIAN_SSIM = {"Classic5": {10: "0.760", 20: "0.834", 30: "0.867", 40: "0.885"}}


@pytest.mark.slow
@pytest.mark.parametrize(("set_name", "count"), [("Classic5", 5), ("LIVE1", 29)])
def test_published_jpeg_columns_come_out_to_the_last_digit(set_name: str, count: int) -> None:
    folder = SHARED / set_name.lower()
    if not folder.exists():
        pytest.skip(f"needs {folder}")
    pictures = load_pictures(folder)
    assert len(pictures) == count
    rows = evaluate_jpeg(unchanged, pictures, (10, 20, 30, 40), network="none", set_name=set_name)
    ours = {row["quality"]: row for row in rows}
    (printed,) = [
        row for row in published()["quality"] if (row["set"], row["network"]) == (set_name, "jpeg")
    ]
    assert len(printed["psnr"]) >= 3
    for measure, digits in (("psnr", 2), ("ssim", 3)):
        for quality, figure in printed.get(measure, {}).items():
            assert f"{ours[int(quality)][f'{measure}_in']:.{digits}f}" == f"{figure:.{digits}f}"
    assert len(printed.get("ssim", {})) == (3 if set_name == "Classic5" else 0)
    assert {q: f"{row['psnrb_in']:.2f}" for q, row in ours.items()} == PSNR_B[set_name]


@pytest.mark.slow
def test_the_gaussian_window_gives_the_other_published_column() -> None:
    folder = SHARED / "classic5"
    if not folder.exists():
        pytest.skip(f"needs {folder}")
    pictures = load_pictures(folder)
    for quality, printed in GAUSSIAN_SSIM["Classic5"].items():
        scores = [ssim(luma, jpeg_coded(luma, quality)) for _, luma in pictures]
        assert f"{np.mean(scores):.3f}" == printed
