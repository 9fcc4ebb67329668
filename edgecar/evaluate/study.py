"""One runner for all studies: sources are coded, restored by methods and measured, row by row."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from edgecar.evaluate.clips import frame_of_luma
from edgecar.evaluate.encodes import Source
from edgecar.media.color import bgr_from_frame, frame_with_bgr
from edgecar.media.frame import Coding as FrameCoding
from edgecar.media.frame import Frame
from edgecar.media.pictures import jpeg_coded
from edgecar.media.quantiser import quantiser_from_jpeg_quality
from edgecar.media.video_codec import CodedClip, VideoCoding
from edgecar.runtime.restorer import Restorer

Row = dict[str, Any]
"""A row of a result file; `edgecar/bench/result_schema.json` has the keys of each kind."""

CODED = "coded"
"""Name of the coded clip itself among the methods."""


@dataclass(frozen=True)
class JpegCoding:
    """JPEG of pictures, of which only luma is kept unless ``colour`` is set.

    ``quantiser`` is the quality, 1 to 100.
    """

    quantiser: int
    colour: bool = False


Coding = VideoCoding | JpegCoding


@dataclass(frozen=True, eq=False)
class Coded:
    """A source in one coding, which is made when it is first needed."""

    source: Source
    coding: Coding

    @cached_property
    def clip(self) -> CodedClip:
        """The source, coded and decoded."""
        if isinstance(self.coding, VideoCoding):
            return self.source.coded(self.coding)
        quality = self.coding.quantiser
        stated = FrameCoding(None, quality, "jpeg", quantiser_from_jpeg_quality(quality))
        if self.coding.colour:
            pictures = (jpeg_coded(bgr_from_frame(frame), quality) for frame in self.source.frames)
            frames = map(frame_with_bgr, self.source.frames, pictures)
            return CodedClip([replace(frame, coding=stated) for frame in frames], b"", 0)
        lumas = [jpeg_coded(frame.y, quality) for frame in self.source.frames]
        return CodedClip([replace(frame_of_luma(y), coding=stated) for y in lumas], b"", 0)


class Method(Protocol):
    """A network or post-filter that is evaluated."""

    @property
    def name(self) -> str:
        """Name in the rows."""

    def frames(self, coded: Coded, indices: Sequence[int], /) -> Iterable[Frame]:
        """Return the restored frames with these indices."""

    def setting(self, coding: Coding, /) -> str:
        """Return everything that the output depends on besides the frames."""


class AsDecoded:
    """The coded clip itself, unchanged."""

    name = CODED

    def frames(self, coded: Coded, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield the decoded frames with these indices."""
        return (coded.clip.frames[index] for index in indices)

    def setting(self, _coding: Coding) -> str:
        """Return nothing."""
        return ""


class NetworkMethod:
    """A network, which sees decoded frames one by one, with the quantiser told at run time.

    Frames finer than its weights were trained for are restored as well. The caller closes the
    restorer. Without a name, rows have that of the artifact's model.
    """

    def __init__(self, restorer: Restorer, name: str | None = None) -> None:
        self.name = name or restorer.metadata.model
        self._restorer = restorer

    def frames(self, coded: Coded, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield the restored frames with these indices."""
        quantisers = coded.clip.quantisers
        for index in indices:
            frame = coded.clip.frames[index]
            # Of the whole clip: a study may leave out frames that a camera's restorer sees.
            stated = replace(frame.coding, quantiser=quantisers[index])
            yield self._restorer.restore_all([replace(frame, coding=stated)], [None])[0]

    def setting(self, _coding: Coding) -> str:
        """Return everything that the output depends on besides the frames."""
        return f"{self._restorer.metadata} {self._restorer.engine.info}"


def run(
    sources: Iterable[Source],
    codings_of: Callable[[Source], Iterable[tuple[Coding, Row]]],
    methods: Sequence[Method],
    measure: Callable[[Coded, Method, Row], Row],
    done: Collection[tuple[Any, ...]] = (),
) -> Iterator[Row]:
    """Yield a row for each source, coding and method, in this order.

    A coding comes with the columns that name it in the rows; ``measure`` returns those that it
    measures. Rows whose keys (`row_key`) are ``done`` are left out.
    """
    for source in sources:
        for coding, columns in codings_of(source):
            coded = Coded(source, coding)
            for method in methods:
                row = {"network": method.name, **columns}
                if not done or row_key(row) not in done:
                    yield row | measure(coded, method, row)


def row_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return clip, coding and network of a row of variants."""
    keys = ("clip", "codec", "quantiser", "limit_mbps", "structure", "in_loop_filters", "network")
    return tuple(row[key] for key in keys)
