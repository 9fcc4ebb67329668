"""Sample frames: those that a network gains most and least on, kept while it is measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from edgecar.evaluate.detector_decoders import Detections
from edgecar.evaluate.study import Coded, Row
from edgecar.evaluate.variants import variant_words
from edgecar.media.frame import Frame

MOST = 8
"""Frames to keep for up to four networks, so that the page stays readable."""
Kind = Literal["best", "worst"]
SIGNS: dict[Kind, int] = {"best": -1, "worst": 1}
"""Sign by which gains are sorted, the most extreme first."""


@dataclass(frozen=True)
class Marks:
    """Objects of a frame found and missed, and detections that match no object."""

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
    """One frame before coding, after it, and restored (its chroma may be that of ``coded``).

    ``quantiser`` is CRF, QP or JPEG quality, and ``variant`` has the rest of the coding in words.
    ``gain`` is in dB of luma PSNR; where there are boxes, it is the number of mistakes fewer.
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


def sample_of(
    coded: Coded,
    row: Row,
    index: int,
    gain: float,
    restored: Frame,
    boxes: Boxes | None = None,
) -> SampleFrame:
    """Return a frame of a coded source, restored by the method that a row names."""
    names = coded.source.names
    return SampleFrame(
        network=row["network"],
        clip=names[index] if names else coded.source.name,
        quantiser=coded.coding.quantiser,
        variant=variant_words(row) if "structure" in row else "",
        index=0 if names else index,
        gain=gain,
        source=coded.source.frames[index],
        coded=coded.clip.frames[index],
        restored=restored,
        boxes=boxes,
    )


class SampleFrames:
    """Keeps, for every network, the frames that it gains most and least on.

    It keeps at most one of each kind from a clip, and ``most`` in all, but two for every network,
    so that memory does not grow with the size of the study.
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
