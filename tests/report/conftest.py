"""Made-up studies with small frames and awkward names."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.bench.results import Results
from edgecar.evaluate.detector_decoders import Detections
from edgecar.evaluate.sample_frames import Boxes, Marks, SampleFrame, SampleFrames
from edgecar.media.frame import Frame

AWKWARD = "gate <b>&\"'|*x*_`"
SIZE = (96, 160)
MACHINE = {
    "cpu": "Atom <1>", "cpu_features": ["avx2"], "cores": 4, "memory_gib": 8.0, "os": "Linux",
    "python": "3.10.1", "gpus": [], "jetson": None,
}  # fmt: skip


def results_of(kind: str, rows) -> Results:
    command = "edgecar eval --data '<clips>' & co"
    return Results(kind, rows, MACHINE, {"numpy": "2.0"}, "f" * 40, command, "2026-01-31T23:59:59Z")


def video_row(network="net", clip=AWKWARD, quantiser=41, gain=0.25, kbps=None, **others):
    before = 50 - quantiser / 2
    return {
        "network": network, "codec": "h264", "clip": clip, "quantiser": quantiser, "frames": 4,
        "kbps": 4000 / quantiser if kbps is None else kbps, "psnr_in": before,
        "psnr_out": before + gain, "ssim_in": 0.9, "ssim_out": 0.91, "worst_frame_gain_db": -0.1,
    } | others  # fmt: skip


def jpeg_row(network="net", quality=10, gain=0.5):
    return {
        "network": network, "set": AWKWARD, "quality": quality, "psnr_in": 27.0 + quality / 10,
        "psnr_out": 27.0 + quality / 10 + gain, "ssim_in": 0.8, "ssim_out": 0.85,
        "psnrb_in": 26.0, "psnrb_out": 27.5, "worst_picture_gain_db": -0.01,
    }  # fmt: skip


def detection_row(network="net", quantiser=41, gain=0.02, interval=(0.005, 0.035), name="yolo"):
    none = network == "coded"
    return {
        "network": network, "detector": name, "head": "YOLOX", "objects": "all",
        "truth": "detector", "confidence": 0.25, "codec": "h264", "quantiser": quantiser,
        "kbps": 80.0, "clips": [AWKWARD], "frames": 10, "boxes": 70,
        "ap50": 0.6 + (0 if none else gain), "ap50_interval": (0.5, 0.7), "ap": 0.4,
        "over_coded50": None if none else gain,
        "over_coded50_interval": None if none else interval,
        "over_coded": None if none else gain, "over_spp50": None, "over_spp50_interval": None,
        "over_spp": None, "recommendation": None if none else "either",
    }  # fmt: skip


def photo_frame(size=SIZE, shift=0) -> Frame:
    bgr = cv2.resize(data.astronaut()[:, :, ::-1], (size[1] + shift, size[0]))[:, shift:]
    yuv = cv2.cvtColor(np.ascontiguousarray(bgr), cv2.COLOR_BGR2YUV_I420)
    height, width = size
    chroma = yuv[height:].reshape(2, height // 2, width // 2)
    return Frame(yuv[:height].copy(), chroma[0].copy(), chroma[1].copy())


def softened(frame: Frame, side: int) -> Frame:
    return frame.with_luma(cv2.blur(frame.y, (side, side)))


def found(*boxes, score=0.9, number=0) -> Detections:
    count = len(boxes)
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(corners, np.full(count, score, np.float32), np.full(count, number))


def sample(gain=0.25, clip=AWKWARD, network="net", index=3, size=SIZE, boxes=None) -> SampleFrame:
    source = photo_frame(size)
    coded, restored = softened(source, 7), softened(source, 3)
    if gain < 0:
        coded, restored = restored, coded
    return SampleFrame(network, clip, 41, "", index, gain, source, coded, restored, boxes)


@pytest.fixture
def boxes() -> Boxes:
    one, other, third = (8, 20, 40, 70), (60, 20, 90, 80), (110, 10, 150, 60)
    return Boxes(
        found(one, other),
        Marks(found(one), found(other), found(third, score=0.4)),
        Marks(found(one, other), found(), found()),
        {0: "person"},
    )


@pytest.fixture
def sample_frames() -> Callable[..., SampleFrames]:
    def keep(*kept: SampleFrame) -> SampleFrames:
        made = SampleFrames(len({one.network for one in kept}))
        for one in kept:
            made.offer(one)
        return made

    return keep
