"""A step that cleans pictures, for loops that another library runs."""

import logging
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from edgecar.artifact import Artifact
from edgecar.engines.base import Codes, Engine
from edgecar.errors import SettingsError
from edgecar.media.coding import picture_coding
from edgecar.media.frame import Coding
from edgecar.media.inputs import Input, Pictures, open_input
from edgecar.runtime.choice import choose_weights, limits_of
from edgecar.runtime.restorer import Restorer
from edgecar.spec import Precision, WeightsFor, coder_and_purpose

if TYPE_CHECKING:
    from typing_extensions import Unpack

LOOKED_AT = 25
"""Frames at the beginning of a file that tell how finely it is coded."""

NETWORK = "edgecar-s"
"""Default network, as in `edgecar run`."""

_log = logging.getLogger(__name__)


class RestorerOptions(TypedDict, total=False):
    """Keyword arguments of `open_restorer`, for functions that pass them on."""

    network: str | Path | Artifact
    coder: WeightsFor | None
    engine: str | Engine
    precision: Precision | None
    reuse: bool
    threads: int | None
    quantiser: float | None


def open_restorer(
    codec: str,
    *,
    network: str | Path | Artifact = NETWORK,
    coder: WeightsFor | None = None,
    engine: str | Engine = "auto",
    precision: Precision | None = None,
    reuse: bool = True,
    threads: int | None = None,
    quantiser: float | None = None,
) -> Restorer:
    """Open a restorer for a video; the choice is logged, as a warning where it does not fit.

    Args:
        codec: Codec of the video: FFmpeg's short name.
        network: A network that ships with weights, an exported file, or an open artifact.
        coder: Take shipped weights for this, whatever the video, such as ``h264:detect``; None:
            for what it is coded with.
        engine: A name, or an open engine, which stays the caller's to close.
        precision: Arithmetic; None takes the engine's choice.
        reuse: Compute only what a change can reach; same bytes out.
        threads: CPU threads at most; None: all.
        quantiser: Told to the network for every frame; see `Restorer`.

    Raises:
        ArtifactError: No weights fit, or there is no such network.
        EngineError: The engine is absent or refuses the artifact.
        SettingsError: The network takes no such quantiser.
    """
    if isinstance(network, Artifact):
        artifact, limits = network, limits_of(network.metadata, any_coder=True)
    else:
        choice = choose_weights(str(network), codec, coder)
        artifact, limits = choice.artifact, choice.limits
        _log.info("network: %s", choice.reason)
        if choice.note:
            _log.warning("%s", choice.note)
    restorer = Restorer(
        artifact,
        engine,
        precision,
        reuse=reuse,
        threads=threads,
        limits=limits,
        quantiser=quantiser,
    )
    _log.info("engine: %s", restorer.engine.info)
    return restorer


class Cleaner(AbstractContextManager["Cleaner"]):
    """``clean(bgr) -> bgr`` with weights that suit a video, as a step before a detector.

    It is a callback of ``supervision.process_video`` as it stands: the number of the frame, which
    comes second, is accepted and not used. Threads may share it. Use one for
    each video: outputs are used again from frame to frame.

    A picture in BGR does not say how it was coded. So all of them pass as they are, and are counted
    in ``restorer.stats``, where the video's first second is coded in another way or finer than the
    weights were trained for; a warning is logged.

    Clean whole frames, before they are sliced: a slice that is cleaned alone has edges which the
    network takes for those of the picture.

    Args:
        video: The file or picture whose coding chooses the weights; it is opened for that and
            closed again. For cameras that allow one connection, give ``coder``.
        skip_below_qp: Pass H.264 finer than this mean QP; 0: none. None: by the weights.
        skip_above_quality: Pass JPEG of a higher quality; 100: none. None: by the weights.
        options: ``network``, ``coder``, ``engine``, ``precision``, ``reuse``, ``threads`` and
            ``quantiser``, as for `open_restorer`. Without the last one, the video's first second
            tells the quantiser of all pictures.

    Raises:
        SettingsError: Neither ``video`` nor ``coder`` is given, and ``network`` is no artifact.
        MediaError: The video cannot be opened.
        ArtifactError: No weights fit, or there is no such network.
        EngineError: The engine is absent or refuses the artifact.

    Example:
        >>> def write_clean(source, target):
        ...     import supervision as sv
        ...
        ...     with Cleaner(source) as clean:
        ...         sv.process_video(source, target, callback=clean)
    """

    def __init__(
        self,
        video: str | Path | None = None,
        *,
        skip_below_qp: float | None = None,
        skip_above_quality: int | None = None,
        **options: "Unpack[RestorerOptions]",
    ) -> None:
        coder = options.get("coder")
        if video is None and coder is None and not isinstance(options.get("network"), Artifact):
            raise SettingsError(
                "got neither a video nor a coder; give the video whose frames will come, or "
                "coder='jpeg', 'h264' or 'hevc'"
            )
        codec = coder_and_purpose(coder)[0] if coder else ""
        self._coding = coding = Coding(codec=codec)
        if video is not None and coder is None:
            with open_input(video, read_coding=True) as source:
                self._coding = coding = _coding_of(source)
        self.restorer = open_restorer(coding.codec, **options)
        """Does the work; says what is in use and what was done."""
        limits = self.restorer.limits.but(skip_below_qp, skip_above_quality)
        self.passes_because = limits.reason_to_pass(coding)
        """Why pictures pass as they are; None if they are restored."""
        if self.passes_because:
            _log.warning("%s", limits.in_words(self.passes_because, coding))

    def __call__(self, bgr: Codes, index: int | None = None) -> Codes:  # noqa: ARG002
        """Clean a picture, ``(H, W, 3)`` uint8 in BGR order; same shape and order out.

        Args:
            bgr: The picture.
            index: Its number, from loops that count; not used.

        Raises:
            MediaError: The array is no BGR picture.
        """
        if self.passes_because:
            self.restorer.count_passed(self.passes_because)
            return np.array(bgr)
        return self.restorer(bgr, coding=self._coding)

    def close(self) -> None:
        self.restorer.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _coding_of(source: Input) -> Coding:
    """How an input is coded: a picture, or the mean of a video's first frames."""
    if isinstance(source, Pictures):
        return picture_coding(source.paths[0].read_bytes())
    codings = [frame.coding for frame in islice(source, 1 if source.live else LOOKED_AT)]
    qps = [coding.qp for coding in codings if coding.qp is not None]
    qualities = [each.jpeg_quality for each in codings if each.jpeg_quality is not None]
    quantisers = [each.quantiser for each in codings if each.quantiser is not None]
    return Coding(
        fmean(qps) if qps else None,
        round(fmean(qualities)) if qualities else None,
        source.codec,
        fmean(quantisers) if quantisers else None,
    )
