"""Target files: which box is meant, and what is refused."""

from dataclasses import replace

import pytest

from edgecar.engines.gpu import Gpu
from edgecar.engines.targets import all_targets, own_target, target_named, target_of
from edgecar.errors import SettingsError
from edgecar.files import shipped
from edgecar.runtime.tiles import plan_grid

BOXES = ("orin-nano", "orin-nx", "agx-orin", "thor", "t4", "l4", "a2", "h200", "rtx")


def a_gpu(name: str, capability: str, board: str = "") -> Gpu:
    return Gpu(name, capability, 16, 32768, bool(board), "13.0", board, board and "# R36")


def test_boxes_ship() -> None:
    assert set(all_targets()) == set(BOXES)
    for target in all_targets().values():
        assert min(target.tile) > 2 * 21  # the farthest-seeing network has something left
        assert target.source


@pytest.mark.parametrize(
    ("name", "capability", "board", "target"),
    [
        ("Orin", "8.7", "NVIDIA Jetson Orin Nano Developer Kit", "orin-nano"),
        ("Orin", "8.7", "NVIDIA Jetson Orin NX Engineering Reference", "orin-nx"),
        ("Orin (nvgpu)", "8.7", "NVIDIA Jetson AGX Orin Developer Kit", "agx-orin"),
        ("NVIDIA Thor", "11.0", "NVIDIA Jetson AGX Thor Developer Kit", "thor"),
        ("Tesla T4", "7.5", "", "t4"),
        ("NVIDIA L4", "8.9", "", "l4"),
        ("NVIDIA A2", "8.6", "", "a2"),
        ("NVIDIA H200", "9.0", "", "h200"),
        ("NVIDIA GeForce RTX 4090", "8.9", "", "rtx"),
        ("NVIDIA RTX A2000", "8.6", "", "rtx"),
        ("NVIDIA L40S", "8.9", "", None),
        ("NVIDIA A2000", "8.6", "", None),
        ("NVIDIA L4", "9.9", "", None),
    ],
)
def test_gpu_is_told_by_its_name(name, capability, board, target) -> None:
    found = target_of(a_gpu(name, capability, board))
    assert (found.name if found else None) == target


def test_gpu_that_no_file_is_for_gets_a_target_of_its_own() -> None:
    target = own_target(a_gpu("NVIDIA L40S", "8.9"))
    assert (target.name, target.compute_capability) == ("nvidia-l40s", "8.9")
    assert (target.batch, target.workspace_mib) == (4, 2048)


def test_large_gpu_computes_no_more_tiles_than_a_1080p_frame_has() -> None:
    large = replace(a_gpu("NVIDIA H100", "9.0"), multiprocessors=132)
    target = own_target(large)
    assert target.batch == len(plan_grid((1080, 1920), target.tile, halo_px=12))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("batch = 9", "batch = 0"), "batch is 0, which it cannot be"),
        (("batch = 9", 'batch = "nine"'), "batch is 'nine'"),
        (("batch = 9", "batsh = 9"), "missing key 'batch'"),
        (("tile = [384, 656]", "tile = [384]"), "tile is [384]"),
        (("tile = [384, 656]", "tile = [384, 6.5]"), "tile is [384, 6.5]"),
        (('library = "tensorrt"', 'library = "trt"'), "library is 'trt'"),
        (('"fp16", ', '"fp17", '), "precisions is ['fp17'"),
        (('title = "T4"', "title = 4"), "title is 4"),
        (("batch = 9", "batch = 9\nextra = 1"), "unknown key 'extra'"),
        (("batch = 9", "batch ="), "cannot read target"),
    ],
)
def test_file_that_is_not_understood_is_refused(change, said, tmp_path) -> None:
    text = (shipped("engines", "targets") / "t4.toml").read_text()
    assert change[0] in text
    own = tmp_path / "own.toml"
    own.write_text(text.replace(*change))
    with pytest.raises(SettingsError) as refused:
        target_named(str(own))
    assert said in str(refused.value)


def test_file_of_the_users_is_taken(tmp_path) -> None:
    own = tmp_path / "gate.toml"
    own.write_text((shipped("engines", "targets") / "t4.toml").read_text())
    assert target_named(str(own)) == replace(target_named("t4"), name="gate")


def test_unknown_name_is_answered_with_the_names() -> None:
    with pytest.raises(SettingsError) as refused:
        target_named("orin")
    assert all(box in str(refused.value) for box in BOXES)
