"""From a decoder's NV12 to a detector's tensor, on a GPU made of the CPU."""

import cv2
import numpy as np
import pytest

from edgecar.engines.fake import FakeEngine
from edgecar.errors import MediaError
from edgecar.media.color import bgr_from_frame
from edgecar.media.frame import Colour, Frame
from edgecar.runtime.cuda.arrays import DeviceTensor
from edgecar.runtime.cuda.detector import DetectorInput, kernel_matrix, placement
from edgecar.runtime.cuda.runner import CudaRunner, ReferenceTiles
from tests.runtime.cuda.device_arrays import on_device
from tests.runtime.cuda.host_device import HostDevice
from tests.runtime.cuda.small_network import HALO, InTurn, blurred
from tests.runtime.cuda.test_arrays import ByInterface
from tests.runtime.cuda.test_kernels import MATRICES, bgr_reference, resized_reference

BT709 = Colour(full_range=False, matrix=1)
DTYPES = {"<f4": np.float32, "<f2": np.float16, "|u1": np.uint8}


def values(tensor: DeviceTensor):
    """As another library would read it."""
    metadata = tensor.__cuda_array_interface__
    found = tensor.owner.host.view(DTYPES[metadata["typestr"]])
    strides = metadata["strides"]
    return np.lib.stride_tricks.as_strided(found, metadata["shape"], strides)


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
    device = HostDevice(7)
    tiles = ReferenceTiles(device, FakeEngine(blurred), (2, 16, 20))
    luma, chroma = nv12(1, *size)
    moved = []
    device.download = lambda to, *rest: (
        moved.append(to.size), HostDevice.download(device, to, *rest)
    )  # fmt: skip
    clean = InTurn(CudaRunner(device, tiles, HALO))(on_device(device, luma, 64))
    tensor, place = DetectorInput(device, side, kind)(clean, on_device(device, chroma, 80), BT709)
    assert set(moved) == {4 * 2 * 16 * 20}  # the stand-in engine's tiles, but no frame
    restored = InTurn(CudaRunner(device, tiles, HALO))(luma)[0]
    bgr = bgr_reference(restored, chroma[0], *size, MATRICES["bt709 limited"])
    wanted = np.full((*side, 3), 114, np.uint8)
    inside = (
        slice(place.top, place.top + place.height),
        slice(place.left, place.left + place.width),
    )
    wanted[inside] = resized_reference(bgr, (place.height, place.width))
    unit = np.multiply(wanted[:, :, ::-1].transpose(2, 0, 1), np.float32(1 / 255)).astype(dtype)
    assert tensor.shape == (1, 3, *side)
    assert values(tensor)[0].tobytes() == unit.tobytes()
    resized = cv2.resize(bgr, (place.width, place.height), interpolation=cv2.INTER_LINEAR)
    got = np.rint(values(tensor)[0].astype(np.float32) * 255).transpose(1, 2, 0)[inside]
    assert np.abs(got[:, :, ::-1] - resized).max() <= 1  # OpenCV rounds its weights another way


def test_picture_in_its_own_size() -> None:
    device = HostDevice()
    luma, chroma = nv12(2, 22, 31)
    maker = DetectorInput(device, (32, 32))
    tensor = maker.bgr(on_device(device, luma, 64), on_device(device, chroma, 64), BT709)
    wanted = bgr_reference(luma[0], chroma[0], 22, 31, MATRICES["bt709 limited"])
    assert (values(tensor) == wanted).all()


def test_colours_that_are_not_stated_are_those_of_the_converter() -> None:
    """On even chroma, where its interpolation plays no part; two codes of coarser tables."""
    device = HostDevice()
    luma = np.random.default_rng(3).integers(16, 236, (1, 20, 20), np.uint8)
    u, v = (np.full((10, 10), value, np.uint8) for value in (110, 150))
    chroma = np.stack([u, v], -1).reshape(1, 10, 20)
    tensor = DetectorInput(device, (32, 32)).bgr(
        on_device(device, luma, 64), on_device(device, chroma, 64)
    )
    frame = Frame(y=luma[0], u=u, v=v, pts=0, time_base=None, colour=Colour())
    assert np.abs(values(tensor).astype(int) - bgr_from_frame(frame)).max() <= 2


def test_planes_that_are_still_being_made_are_waited_for() -> None:
    luma, chroma = nv12(4, 20, 24)
    wanted = bgr_reference(luma[0], chroma[0], 20, 24, MATRICES["bt709 limited"])
    for seed in range(8):
        device = HostDevice(seed)
        planes = ByInterface(device, luma), ByInterface(device, chroma)
        tensor = DetectorInput(device, (32, 32)).bgr(*planes, BT709)
        assert (values(tensor) == wanted).all()


@pytest.mark.parametrize("chroma", [(1, 9, 24), (1, 10, 23), (2, 10, 24)])
def test_chroma_of_another_size_is_refused(chroma) -> None:
    device = HostDevice()
    planes = [on_device(device, np.zeros(s, np.uint8), 64) for s in ((1, 20, 24), chroma)]
    with pytest.raises(MediaError, match=r"need chroma \(1, 10, 24\)"):
        DetectorInput(device, (32, 32))(*planes)


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("bt709 limited", BT709),
        ("bt601 limited", Colour()),
        ("bt601 full", Colour(full_range=True, matrix=6)),
    ],
)
def test_matrix_is_that_of_the_standard(name, colour) -> None:
    # The last bit: one of the tables was cut off where the other is rounded.
    assert np.abs(np.subtract(kernel_matrix(colour), MATRICES[name])).max() <= 1


def test_picture_keeps_its_shape_and_lies_in_the_middle() -> None:
    place = placement((1080, 1920), (640, 640))
    assert (place.top, place.left, place.height, place.width) == (140, 0, 360, 640)
    tall = placement((200, 100), (100, 100))
    assert (tall.top, tall.left, tall.height, tall.width) == (0, 25, 100, 50)
