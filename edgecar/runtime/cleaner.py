"""A step that cleans pictures, for loops that another library runs."""

from pathlib import Path

from edgecar.artifact import Artifact
from edgecar.closing import Closing
from edgecar.engines.base import Codes, Engine
from edgecar.errors import SettingsError
from edgecar.media.inputs import open_input
from edgecar.runtime.suited import NETWORK, Suit
from edgecar.spec import Coder, Precision


class Cleaner(Closing):
    """``clean(bgr) -> bgr`` with weights that suit a video, as a step before a detector.

    It is a callback of ``supervision.process_video`` as it stands: the number of the frame, which
    comes second, is accepted and not used. Threads may share it. Use one for
    each video: outputs are used again from frame to frame.

    Clean whole frames, before they are sliced: a slice that is cleaned alone has edges which the
    network takes for those of the picture.

    Args:
        video: The file or picture whose coding chooses the weights; it is opened for that and
            closed again. For cameras that allow one connection, give ``coder``.
        network: A network that ships with weights, an exported file, or an open artifact.
        coder: Take shipped weights for this, whatever the video.
        engine: A name, or an open engine, which stays the caller's to close.
        precision: Arithmetic; None takes the engine's choice.
        reuse: Compute only what a change can reach; same bytes out.
        threads: CPU threads at most; None: all.

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
        network: str | Path | Artifact = NETWORK,
        coder: Coder | None = None,
        engine: str | Engine = "auto",
        precision: Precision | None = None,
        reuse: bool = True,
        threads: int | None = None,
    ) -> None:
        if video is None and coder is None and not isinstance(network, Artifact):
            raise SettingsError(
                "got neither a video nor a coder; give the video whose frames will come, or "
                "coder='jpeg', 'h264' or 'hevc'"
            )
        codec: str = coder or ""
        if video is not None and coder is None:
            with open_input(video) as source:
                codec = source.codec
        suit = Suit(
            network=network,
            coder=coder,
            engine=engine,
            precision=precision,
            reuse=reuse,
            threads=threads,
        )
        self.restorer = suit.restorer_for(codec)
        """Does the work; says what is in use and what was done."""

    def __call__(self, bgr: Codes, index: int | None = None) -> Codes:  # noqa: ARG002
        """Clean a picture, ``(H, W, 3)`` uint8 in BGR order; same shape and order out.

        Args:
            bgr: The picture.
            index: Its number, from loops that count; not used.

        Raises:
            MediaError: The array is no BGR picture.
        """
        return self.restorer(bgr)

    def close(self) -> None:
        self.restorer.close()
