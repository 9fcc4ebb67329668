"""Flicker and share of pixels are those of how the quantiser is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.run.flicker import line, measured
from edgecar.engines.fake import FakeEngine
from edgecar.evaluate.clips import Clip
from edgecar.runtime.restorer import Restorer
from tests.evaluate.conftest import PHOTO
from tests.media.test_video_codec import moving
from tests.runtime.test_restorer import fake_artifact


@pytest.fixture
def still_clip(monkeypatch) -> Clip:
    """A clip in which nothing moves but a corner."""
    frames = moving(13, (64, 96))
    for frame in frames:
        frame.y[:, 24:] = PHOTO[:64, :72]
    monkeypatch.setattr(Clip, "load", lambda _clip: frames)
    return Clip(Path("still.mp4"))


@pytest.mark.parametrize("takes", [True, False])
def test_a_quantiser_of_each_frame_moves_and_flickers_more_than_the_slow_one(still_clip, takes):
    artifact = fake_artifact()
    artifact = replace(artifact, metadata=replace(artifact.metadata, takes_quantiser=takes))

    def brighter(batch: np.ndarray) -> np.ndarray:
        return batch + engine.quantisers[:, None, None, None] / 4

    engine = FakeEngine(brighter)
    with Restorer(artifact, engine) as restorer:
        rows = {row.way: row for row in measured(still_clip, [32], restorer)}
    assert rows["middle"].flicker_ratio == pytest.approx(1, abs=0.1)  # it adds the same everywhere
    assert rows["middle"].moves_a_minute == 0
    if not takes:
        assert set(rows) == {"middle"}
        return
    assert rows["frame"].flicker_ratio > rows["slow"].flicker_ratio
    assert rows["frame"].moves_a_minute > rows["slow"].moves_a_minute
    assert rows["frame"].computed_share >= rows["slow"].computed_share
    assert line(rows["frame"]).startswith("still CRF 32 frame  flicker ")
