"""The quantiser of pictures and streams, on the scale of networks."""

import numpy as np
import pytest

from edgecar.media.coding import jpeg_quality, picture_coding
from edgecar.media.quantiser import (
    SlowQuantiser,
    luma_table,
    quantiser_from_jpeg_quality,
    quantiser_from_jpeg_steps,
    quantiser_from_qp,
)


def moves(qps: list[float]) -> list[float | None]:
    slow = SlowQuantiser()
    return [slow.after(qp) for qp in qps]


def test_the_scale_runs_from_lossless_to_the_coarsest_and_never_turns() -> None:
    by_quality = [quantiser_from_jpeg_quality(quality) for quality in range(100, 0, -1)]
    assert by_quality[0] == 0
    assert by_quality == sorted(by_quality)
    assert 0.9 < by_quality[-1] <= 1
    assert quantiser_from_jpeg_steps(np.full(64, 65535)) == 1  # tables in sixteen bits
    assert [quantiser_from_qp(qp) for qp in (-12, 0, 51, 60)] == [0, 0, 1, 1]


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 100])
def test_a_table_is_that_of_its_quality(quality: int) -> None:
    table = luma_table(quality)
    head = (
        b"\xff\xd8\xff\xdb\x00\x43\x00" + bytes(table.astype(np.uint8).tolist()) + b"\xff\xda\0\0"
    )
    assert jpeg_quality(head) == quality
    assert picture_coding(head).quantiser == quantiser_from_jpeg_quality(quality)


def test_a_steady_stream_keeps_its_quantiser_whatever_its_frame_types_are() -> None:
    frames = [27.0, 33, 31, 33, 29, 33] * 50  # a key frame, P and B
    assert len(set(moves(frames)[24:])) == 1
    assert len(set(moves(frames))) <= 2


def test_a_quantiser_follows_a_lasting_change_and_ignores_a_single_frame() -> None:
    still, coarse = [24.0] * 30, [45.0] * 30
    assert len(set(moves([*still, 36, *still]))) == 1
    followed = moves([*still, *coarse])
    assert quantiser_from_qp(42) <= followed[-1] <= quantiser_from_qp(45)
    assert len(set(followed)) <= 8


def test_frames_without_a_qp_change_nothing() -> None:
    assert moves([None, None]) == [None, None]  # type: ignore[list-item]
    assert moves([30, None, None]) == [quantiser_from_qp(30)] * 3  # type: ignore[list-item]
