"""From a decoder's NV12 to a detector's tensor, on a GPU made of the CPU."""

import numpy as np
import pytest

from edgecar.errors import MediaError
from edgecar.media.frame import Colour
from edgecar.runtime.cuda.detector import DetectorInput, kernel_matrix, placement
from tests.runtime.cuda.host_device import HostDevice, from_device, on_device
from tests.runtime.cuda.small_network import SHAPE, runner_of
from tests.runtime.cuda.test_arrays import ByInterface
from tests.runtime.cuda.test_kernels import MATRICES, bgr_reference, letterbox_reference

BT709 = Colour(full_range=False, matrix=1)


def nv12(seed: int, height: int, width: int):
    """Luma and chroma, ``(1, rows, columns)``, at odd sizes as well."""
    random = np.random.default_rng(seed)
    luma = random.integers(16, 236, (1, height, width), np.uint8)
    chroma = random.integers(90, 166, (1, -(-height // 2), -(-width // 2) * 2), np.uint8)
    return luma, chroma


@pytest.mark.parametrize(("kind", "dtype"), [("fp32", np.float32), ("fp16", np.float16)])
@pytest.mark.parametrize(("size", "side"), [((40, 60), (48, 48)), ((33, 41), (32, 64))])
def test_restored_frame_reaches_the_detector_without_the_cpu(size, side, kind, dtype) -> None:
    """Every byte is that of the NumPy way: restore, convert, resize, letterbox."""
    device, moved = HostDevice(7), []
    luma, chroma = nv12(1, *size)
    download = device.download
    device.download = lambda to, *rest: (moved.append(to.size), download(to, *rest))
    clean = runner_of(device, reuse=False)(on_device(device, luma, 64))
    tensor, place = DetectorInput(device, side, kind)(clean, on_device(device, chroma, 80), BT709)
    # The stand-in engine's tiles and their quantisers, but no frame.
    assert set(moved) == {4 * np.prod(SHAPE), 4 * SHAPE[0]}
    bgr = bgr_reference(runner_of(device)(luma)[0], chroma[0], *size, MATRICES[BT709])
    expected, inside = letterbox_reference(bgr, side)
    assert (
        inside == np.s_[place.top : place.top + place.height, place.left : place.left + place.width]
    )
    assert tensor.shape == (1, 3, *side)
    assert from_device(tensor)[0].tobytes() == expected.astype(dtype).tobytes()


def test_planes_that_are_still_being_made_are_waited_for() -> None:
    luma, chroma = nv12(4, 22, 31)
    bgr = bgr_reference(luma[0], chroma[0], 22, 31, MATRICES[BT709])
    wanted, _ = letterbox_reference(bgr, (32, 32))
    for seed in range(8):
        device = HostDevice(seed)
        planes = ByInterface(device, luma), ByInterface(device, chroma)
        tensor, _ = DetectorInput(device, (32, 32))(*planes, BT709)
        assert from_device(tensor)[0].tobytes() == wanted.tobytes()


@pytest.mark.parametrize("chroma", [(1, 9, 24), (1, 10, 23), (2, 10, 24)])
def test_chroma_of_another_size_is_refused(chroma) -> None:
    device = HostDevice()
    planes = [on_device(device, np.zeros(s, np.uint8), 64) for s in ((1, 20, 24), chroma)]
    with pytest.raises(MediaError, match=r"need chroma \(1, 10, 24\)"):
        DetectorInput(device, (32, 32))(*planes)


@pytest.mark.parametrize("colour", MATRICES)
def test_matrix_is_that_of_the_standard(colour) -> None:
    # The last bit: one of the tables was cut off where the other is rounded.
    assert np.abs(np.subtract(kernel_matrix(colour), MATRICES[colour])).max() <= 1


def test_picture_keeps_its_shape_and_lies_in_the_middle() -> None:
    tall = placement((200, 100), (100, 100))
    assert (tall.top, tall.left, tall.height, tall.width) == (0, 25, 100, 50)
