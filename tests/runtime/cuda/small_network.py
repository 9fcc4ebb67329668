"""A network small enough to know by heart, and what the NumPy runtime makes of frames with it."""

import numpy as np

from edgecar.artifact import Metadata
from edgecar.runtime.restorer import Restorer

HALO = 2


def blurred(batch):
    """A network of nine by nine pixels that pads with noughts; sees two pixels far."""
    padded = np.pad(batch, ((0, 0), (0, 0), (HALO, HALO), (HALO, HALO)))
    height, width = batch.shape[2:]
    shifts = [(row, column) for row in range(0, 5, 2) for column in range(0, 5, 2)]
    rows = [padded[:, :, r : r + height, c : c + width] for r, c in shifts]
    total = np.zeros_like(batch)
    for number, part in enumerate(rows):
        total += part * np.float32((number + 1) / 45)
    return total


def metadata(channels: int = 1, halo_px: int = HALO, align_px: int = 1) -> Metadata:
    return Metadata("none", channels, halo_px, align_px, "local", 8, "fp32", "", "", 0.0, 0.0)


def planes(reference: Restorer, frame):
    """What the NumPy runtime makes of ``(channels, height, width)``."""
    return reference._planes(frame, "reference")


class InTurn:
    """Frames through a runner, each submitted when the one before it was taken.

    Args:
        runner: A `FrameRunner`.
    """

    def __init__(self, runner) -> None:
        self.runner, self.tiles = runner, 0

    def __call__(self, frame, stream=None):
        ticket = self.runner.submit(frame, stream)
        restored = self.runner.result(ticket)
        self.tiles += ticket.tiles
        return restored


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
