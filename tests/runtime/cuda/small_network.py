"""A network small enough to know by heart, and what the NumPy runtime makes of frames with it."""

from dataclasses import replace

import numpy as np

from edgecar.artifact import Artifact
from edgecar.engines.fake import FakeEngine
from edgecar.media.frame import Coding
from edgecar.metadata import Metadata
from edgecar.runtime.cuda.runner import CudaRunner
from edgecar.runtime.restorer import Restorer
from edgecar.spec import MIDDLE_QUANTISER
from tests.runtime.cuda.host_device import ReferenceTiles

HALO = 2
SHAPE = (3, 16, 20)


def blurred(batch):
    """A network of nine by nine pixels that pads with noughts; sees two pixels far."""
    padded = np.pad(batch, ((0, 0), (0, 0), (HALO, HALO), (HALO, HALO)))
    height, width = batch.shape[2:]
    total = np.zeros_like(batch)
    for number, (row, column) in enumerate((r, c) for r in range(0, 5, 2) for c in range(0, 5, 2)):
        part = padded[:, :, row : row + height, column : column + width]
        total += part * np.float32((number + 1) / 45)
    return total


def told_blurred(batch, quantisers):
    """That network, with a quantiser that moves a bias and scales what is blurred."""
    told = quantisers[:, None, None, None]
    return batch + (blurred(batch) - told / 4) * told


def metadata(channels: int = 1, align_px: int = 1, told: bool = False) -> Metadata:
    halo_px = -(-HALO // align_px) * align_px
    made = Metadata("none", channels, halo_px, align_px, "local", 8, "fp32", "", "", 0.0, 0.0)
    return replace(made, takes_quantiser=told)


def artifact(channels: int = 1, align_px: int = 1) -> Artifact:
    return Artifact(metadata(channels, align_px), b"")


class InTurn:
    """Frames through a `FrameRunner`, each submitted when the one before it was taken."""

    def __init__(self, runner) -> None:
        self.runner, self.tiles = runner, 0

    def __call__(self, frame, stream=None, quantiser=MIDDLE_QUANTISER):
        ticket = self.runner.submit(frame, stream, quantiser)
        restored = self.runner.result(ticket)
        self.tiles += ticket.tiles
        return restored


def fake_engine(shape=None, channels=1, align_px=1, told=False) -> FakeEngine:
    """The small network, or the one that takes the quantiser."""
    return FakeEngine(told_blurred if told else blurred, channels, shape, align_px, told)


def runner_of(device, shape=SHAPE, channels=1, align_px=1, told=False, **options) -> InTurn:
    """The GPU runtime with the small network."""
    tiles = ReferenceTiles(device, fake_engine(None, channels, align_px, told), shape)
    halo_px = artifact(channels, align_px).metadata.halo_px
    return InTurn(CudaRunner(device, tiles, halo_px, **options))


def wanted(frame, align_px: int = 1, function=blurred, shape=SHAPE):
    """What the NumPy runtime makes of ``(channels, height, width)``."""
    engine = FakeEngine(function, len(frame), shape, align_px)
    return Restorer(artifact(len(frame), align_px), engine, reuse=False)._planes(
        frame, None, Coding()
    )


def a_clip(seed: int, size, channels: int = 1, frames: int = 5):
    """Frames that change here and there, or not at all."""
    random = np.random.default_rng(seed)
    frame = random.integers(0, 256, (channels, *size), np.uint8)
    clip = [frame]
    for _ in range(frames - 1):
        frame = frame.copy()
        for _ in range(random.integers(0, 3)):
            row, column = (random.integers(0, side) for side in size)
            frame[:, row : row + 3, column : column + 2] ^= np.uint8(random.integers(1, 256))
        clip.append(frame)
    return clip
