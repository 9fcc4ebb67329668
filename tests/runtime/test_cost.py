"""Which way a frame is brought up to date."""

from edgecar.runtime.regions import TRY_EVERY, Atlas, CostModel, TilePlan
from edgecar.runtime.tiles import Tile

WINDOW = Tile((0, 0, 512, 512), (0, 0, 512, 512))
FULL = TilePlan([WINDOW])


def atlas_of(share: float) -> TilePlan:
    height = int(512 * share)
    return TilePlan([WINDOW], Atlas((height, 512), [(0, 0)]))


def test_before_anything_is_known_a_small_canvas_is_taken_and_a_large_one_is_not():
    assert CostModel().prefers(atlas_of(0.5), FULL)
    assert not CostModel().prefers(atlas_of(0.95), FULL)


def test_what_was_measured_decides():
    costs = CostModel()
    for _ in range(50):
        costs.learn(FULL, 0.010)
        costs.learn(atlas_of(0.5), 0.012)
    assert not costs.prefers(atlas_of(0.5), FULL)
    for _ in range(50):
        costs.learn(atlas_of(0.5), 0.004)
    assert costs.prefers(atlas_of(0.5), FULL)


def test_one_slow_frame_does_not_decide():
    costs = CostModel()
    for _ in range(20):
        costs.learn(FULL, 0.010)
        costs.learn(atlas_of(0.5), 0.006)
    costs.learn(atlas_of(0.5), 5.0)
    assert costs.prefers(atlas_of(0.5), FULL)


def test_what_was_turned_down_is_tried_again():
    costs = CostModel()
    for _ in range(50):
        costs.learn(FULL, 0.010)
        costs.learn(atlas_of(0.5), 0.05)
    taken = [costs.prefers(atlas_of(0.5), FULL) for _ in range(2 * TRY_EVERY)]
    assert taken.count(True) == 2


def test_frames_without_work_teach_nothing():
    costs = CostModel()
    costs.learn(TilePlan([]), 0.001)
    assert costs.prefers(atlas_of(0.5), FULL)
