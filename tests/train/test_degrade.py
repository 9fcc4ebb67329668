"""Degradations: drawn from a seed, within their ranges, and truly degrading."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from edgecar.evaluate.metrics import psnr
from edgecar.media.color import paper_luma_from_bgr
from edgecar.media.pictures import jpeg_coded
from edgecar.media.quantiser import quantiser_from_jpeg_quality
from edgecar.train import degrade
from edgecar.train.data import source_of
from edgecar.train.degrade import (
    H264Range,
    HevcRange,
    JpegPairs,
    JpegRange,
    jpegs_held_out,
    turned,
)

DRAWS = 2000


def test_same_state_same_pair(photos) -> None:
    source = JpegPairs(photos, JpegRange())
    first, again, other = (source.pair(np.random.default_rng(seed)) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.coded, again.coded)
    np.testing.assert_array_equal(first.clean, again.clean)
    assert not np.array_equal(first.clean, other.clean)


def test_a_generator_gives_one_pair_after_the_other(photos) -> None:
    source, rng = JpegPairs(photos, JpegRange()), np.random.default_rng(0)
    pairs = [source.pair(rng) for _ in range(12)]
    # 3 photographs, 8 ways to lay them: 12 draws of which most differ.
    assert len({pair.clean.tobytes() for pair in pairs}) > 6


@pytest.mark.parametrize("coder", ["opencv", "pillow"])
def test_pairs_are_a_photograph_and_its_jpeg(photos, coder) -> None:
    source = JpegPairs(photos, JpegRange((10, 10), (coder,)))
    pair = source.pair(np.random.default_rng(1))
    assert pair.coded.shape == pair.clean.shape
    assert pair.coded.dtype == pair.clean.dtype == np.uint8
    np.testing.assert_array_equal(pair.coded, jpeg_coded(pair.clean, 10, coder))
    # Photographs at quality 10 are 25 to 35 dB in every published table.
    assert 22 < psnr(pair.clean, pair.coded) < 38
    lumas = [paper_luma_from_bgr(photo) for photo in photos]
    laid = [np.rot90(luma[:, ::step], k) for luma in lumas for step in (1, -1) for k in range(4)]
    assert any(np.array_equal(pair.clean, one) for one in laid)


def test_all_qualities_and_both_coders_are_drawn(photos, monkeypatch) -> None:
    drawn: Counter = Counter()

    def noted(luma, quality, coder):
        drawn[quality, coder] += 1
        return luma

    monkeypatch.setattr(degrade, "jpeg_coded", noted)
    source, rng = JpegPairs(photos, JpegRange((10, 12))), np.random.default_rng(0)
    for _ in range(60):
        source.pair(rng)
    assert set(drawn) == set(product((10, 11, 12), ("opencv", "pillow")))


def test_photographs_are_held_out_at_each_quality(photos) -> None:
    held_out = jpegs_held_out(photos, JpegRange((10, 60)))
    assert list(held_out) == ["q10", "q20", "q30", "q40", "q60"]
    for name, pairs in held_out.items():
        assert len(pairs) == len(photos)
        quality = int(name[1:])
        for pair, photo in zip(pairs, photos, strict=True):
            np.testing.assert_array_equal(pair.clean, paper_luma_from_bgr(photo))
            np.testing.assert_array_equal(pair.coded, jpeg_coded(pair.clean, quality))
            assert pair.quantiser == quantiser_from_jpeg_quality(quality)
    assert list(jpegs_held_out(photos, JpegRange((12, 14)))) == ["q12", "q14"]  # none between


@pytest.mark.parametrize("share", [0.5, 0.6, 1.0])
def test_the_coarser_half_gets_its_share_of_draws(share) -> None:
    """Standard deviation of a share of 2000 draws: 0.011 at most; four of them."""
    rng = np.random.default_rng(0)
    jpeg = JpegRange((5, 100), coarse_share=share)
    qualities = [jpeg.quality_drawn(rng) for _ in range(DRAWS)]
    assert abs(np.mean([quality < 53 for quality in qualities]) - share) < 0.045
    assert min(qualities) <= 6
    for kind in (H264Range, HevcRange):
        video = kind((10, 51), coarse_share=share)
        levels = [video.coding(rng).quantiser for _ in range(DRAWS)]
        assert abs(np.mean([level > 30 for level in levels]) - share) < 0.045
        assert max(levels) == 51
        assert min(levels) == (10 if share < 1 else 31)


def test_some_photographs_are_made_smaller(photos) -> None:
    source, rng = JpegPairs(photos, JpegRange(shrunk=0.5)), np.random.default_rng(0)
    sizes = [max(source.pair(rng).clean.shape) for _ in range(60)]
    assert min(sizes) in range(96, 130)
    assert max(sizes) == 192
    assert 15 < sizes.count(192) < 45


def test_eight_ways_to_lay_a_picture() -> None:
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    rng = np.random.default_rng(0)
    assert len({turned(picture, rng).tobytes() for _ in range(200)}) == 8


def test_names_begin_with_the_coder() -> None:
    assert JpegRange((10, 40)).name == "jpeg 10-40"
    assert H264Range((27, 48)).name == "h264 crf 27-48"
    assert HevcRange((22, 37)).name == "hevc qp 22-37"


def test_h264_settings_stay_in_their_ranges() -> None:
    degradation = H264Range((30, 33), presets=("fast", "slow"), gops=(10, 20), b_frames=(0, 2))
    rng = np.random.default_rng(0)
    drawn = [degradation.coding(rng) for _ in range(DRAWS)]
    assert {coding.codec for coding in drawn} == {"h264"}
    assert {coding.quantiser for coding in drawn} == {30, 31, 32, 33}
    assert {coding.preset for coding in drawn} == {"fast", "slow"}
    assert {coding.gop for coding in drawn} == {10, 20}
    assert {coding.b_frames for coding in drawn} == {0, 2}
    assert all(coding.in_loop_filters for coding in drawn)
    # What fits together is drawn apart: every combination occurs.
    assert len({(c.quantiser, c.preset, c.gop, c.b_frames) for c in drawn}) == 4 * 2 * 2 * 2


def test_limit_is_scaled_to_the_clip() -> None:
    """1080p at 30/s is 62,208,000 px/s; 384×256 at 25/s is 2,457,600: a share of 0.039506."""
    degradation = H264Range(limits_mbps=(0.0, 2.0, 1.5, 1.0), size=(256, 384))
    rng = np.random.default_rng(0)
    limits = Counter(degradation.coding(rng).max_kbps for _ in range(DRAWS))
    assert set(limits) == {None, 79, 59, 40}  # 79.01, 59.26 and 39.51 kbit/s
    # A quarter each; four standard deviations of a count of 2000 are 77.
    assert all(abs(count - DRAWS / 4) < 80 for count in limits.values())
    doubled = H264Range(limits_mbps=(1.0,), size=(512, 384))
    assert doubled.coding(rng).max_kbps == 79
    tiny = H264Range(limits_mbps=(0.01,), size=(64, 64))
    assert tiny.coding(rng).max_kbps == 1  # coders take no less


def test_hevc_settings_stay_in_their_ranges() -> None:
    degradation = HevcRange((22, 25), gops=(8,), unfiltered=0.15)
    rng = np.random.default_rng(0)
    drawn = [degradation.coding(rng) for _ in range(DRAWS)]
    assert {coding.codec for coding in drawn} == {"hevc"}
    assert {coding.quantiser for coding in drawn} == {22, 23, 24, 25}
    assert {coding.gop for coding in drawn} == {8}
    assert {coding.max_kbps for coding in drawn} == {None}
    without = np.mean([not coding.in_loop_filters for coding in drawn])
    # Standard deviation of the share of 2000 draws: sqrt(0.15 · 0.85 / 2000) = 0.008; four of them.
    assert abs(without - 0.15) < 0.032


def test_jpeg_is_coded_on_the_fly(photos) -> None:
    assert isinstance(source_of(JpegRange(), photos, seed=0), JpegPairs)
