"""Quantisers that a network is told: those of frames, or the one that a person asked for."""

import logging
from collections.abc import Hashable
from dataclasses import dataclass

from edgecar.errors import SettingsError
from edgecar.media.frame import Coding
from edgecar.media.quantiser import (
    HIGHEST_QUANTISER,
    SlowQuantiser,
    jpeg_quality_from_quantiser,
    quantiser_from_jpeg_quality,
    quantiser_from_qp,
)
from edgecar.metadata import Metadata
from edgecar.spec import MIDDLE_QUANTISER

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """Quantiser that a network was told for a frame.

    Attributes:
        quantiser: 0 (lossless) to 1 (coarsest).
        setting: The same in the unit of the weights' coder: quality of JPEG, else QP; None if the
            network takes no quantiser.
        known: False where nothing tells it, and the middle of the range was taken.
        moved: True if the frame before, of the same stream, had another.
    """

    quantiser: float = MIDDLE_QUANTISER
    setting: float | None = None
    known: bool = True
    moved: bool = False


NOTHING = Told()


class Quantisers:
    """Quantisers of frames, stream by stream.

    Args:
        metadata: Metadata of the artifact that is told them.
        asked: Quality or QP for all frames (`quantiser_from_setting`); None: by their coding.

    Raises:
        SettingsError: The artifact takes no such quantiser.
    """

    def __init__(self, metadata: Metadata, asked: float | None = None) -> None:
        if asked is not None:
            quantiser_from_setting(asked, metadata)
        self._metadata, self._asked = metadata, asked
        self._slow: dict[Hashable, SlowQuantiser] = {}
        self._last: dict[Hashable, float] = {}
        self._said = False

    def tell(self, coding: Coding, stream: Hashable, asked: float | None = None) -> Told:
        """Return what to tell of a stream's next frame.

        It is what was asked for, else the quantiser of the frame's tables, else the slow one of the
        stream's QPs, else the middle of the range. ``asked`` goes before what all frames are told.
        """
        if not self._metadata.takes_quantiser:
            return NOTHING
        slow = self._slow.setdefault(stream, SlowQuantiser())
        found = slow.after(coding.qp) if coding.quantiser is None else coding.quantiser
        asked = self._asked if asked is None else asked
        if asked is not None:
            found = quantiser_from_setting(asked, self._metadata)
        if found is None and not self._said:
            self._said = True
            _log.info("got frames that state no QP; the network is told the middle of its range")
        quantiser = MIDDLE_QUANTISER if found is None else found
        moved = self._last.get(stream, quantiser) != quantiser
        self._last[stream] = quantiser
        setting = setting_from_quantiser(quantiser, self._metadata)
        return Told(quantiser, setting, found is not None, moved)

    def forget(self, stream: Hashable) -> None:
        """Forget a stream that has ended."""
        self._slow.pop(stream, None)
        self._last.pop(stream, None)


def quantiser_from_setting(setting: float, metadata: Metadata) -> float:
    """Return the quantiser, 0 to 1, of a setting in the unit of an artifact's coder.

    Args:
        setting: Quality, 1 to 100, for weights for JPEG; else QP, 0 to 51.
        metadata: Metadata of the artifact.

    Raises:
        SettingsError: The setting is out of range, or the artifact takes no quantiser.
    """
    if not metadata.takes_quantiser:
        raise SettingsError(
            f"got quantiser {setting:g} for {metadata.model}, which takes none; leave it out, or "
            "give a network that takes one"
        )
    jpeg = metadata.coder == "jpeg"
    low, high = (1, 100) if jpeg else (0, HIGHEST_QUANTISER)
    if not low <= setting <= high or (jpeg and setting != int(setting)):
        unit = "a whole JPEG quality" if jpeg else "a QP"
        raise SettingsError(
            f"got quantiser {setting:g}; weights for {metadata.coder or 'video'} need {unit}, "
            f"{low} to {high}: give one of those"
        )
    return quantiser_from_jpeg_quality(int(setting)) if jpeg else quantiser_from_qp(setting)


def setting_from_quantiser(quantiser: float, metadata: Metadata) -> float:
    """Return the quality or QP of a quantiser; the inverse of `quantiser_from_setting`."""
    if metadata.coder == "jpeg":
        return jpeg_quality_from_quantiser(quantiser)
    return round(quantiser * HIGHEST_QUANTISER, 1)
