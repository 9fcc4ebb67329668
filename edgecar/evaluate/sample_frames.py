"""Sample frames: those that a network gains most and least on, kept while it is measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from edgecar.evaluate.detector_decoders import Detections
from edgecar.media.frame import Frame

MOST = 8
"""Frames to keep for up to four networks, so that the page stays readable."""
Kind = Literal["best", "worst"]
SIGNS: dict[Kind, int] = {"best": -1, "worst": 1}
"""Sign by which gains are sorted, the most extreme first."""


@dataclass(frozen=True)
class Marks:
    """Detections on one frame, compared with the objects on its source.

    Attributes:
        found: Detections that match an object.
        missed: Objects that no detection matches.
        false: Detections that match no object.
    """

    found: Detections
    missed: Detections
    false: Detections

    @property
    def mistakes(self) -> int:
        """Number of missed objects and false detections."""
        return len(self.missed.scores) + len(self.false.scores)


@dataclass(frozen=True)
class Boxes:
    """Detections on the three pictures of a sample frame, and the names of their classes."""

    source: Detections
    coded: Marks
    restored: Marks
    names: dict[int, str]


@dataclass(frozen=True, eq=False)
class SampleFrame:
    """One frame before coding, after it, and restored.

    Attributes:
        network: Name of the network or post-filter.
        clip: Name of the clip or picture.
        quantiser: CRF, QP or JPEG quality.
        variant: Anything else about the coding, in words.
        index: Number of the frame in its clip.
        gain: Gain in dB of luma PSNR; if ``boxes`` are given, the number of mistakes fewer.
        source: The frame before coding.
        coded: The decoded frame.
        restored: The restored frame; its chroma may be that of ``coded``.
        boxes: Detections of a detector.
    """

    network: str
    clip: str
    quantiser: int
    variant: str
    index: int
    gain: float
    source: Frame
    coded: Frame
    restored: Frame
    boxes: Boxes | None = None


class SampleFrames:
    """Keeps, for every network, the frames that it gains most and least on.

    It keeps at most one frame of each kind from a clip, and `MOST` frames in all, so that memory
    does not grow with the size of the study.

    Args:
        networks: Number of networks in the study.
        most: Frames to keep in all, but at least two for every network.
    """

    def __init__(self, networks: int, most: int = MOST) -> None:
        self._clips = max(1, most // (2 * max(1, networks)))
        self._kept: dict[Kind, dict[str, list[SampleFrame]]] = {"best": {}, "worst": {}}

    def wants(self, network: str, clip: str, gain: float) -> bool:
        """Return True if a frame with this gain would be kept."""
        return any(self._wants(kind, network, clip, gain) for kind in SIGNS)

    def offer(self, sample: SampleFrame) -> None:
        """Keep a frame if it is among the extremes, in place of a lesser one."""
        for kind in SIGNS:
            if self._wants(kind, sample.network, sample.clip, sample.gain):
                kept = self._kept[kind].setdefault(sample.network, [])
                others = [other for other in kept if other.clip != sample.clip]
                kept[:] = sorted(
                    [*others, sample], key=lambda one: one.gain, reverse=kind == "best"
                )[: self._clips]

    def _wants(self, kind: Kind, network: str, clip: str, gain: float) -> bool:
        kept, sign = self._kept[kind].get(network, []), SIGNS[kind]
        rivals = [one for one in kept if one.clip == clip] or kept[self._clips - 1 :]
        return all(sign * gain < sign * rival.gain for rival in rivals)

    def shown(self) -> Iterator[tuple[SampleFrame, Kind]]:
        """Yield the frames gained most on, highest gain first, then those gained least on.

        Networks take turns; no frame comes twice.
        """
        seen: list[SampleFrame] = []
        for kind, kept in self._kept.items():
            for turn in range(self._clips):
                for own in kept.values():
                    if turn < len(own) and own[turn] not in seen:
                        seen.append(own[turn])
                        yield own[turn], kind
