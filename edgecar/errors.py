"""Every failure a user can meet, one class each.

Messages say what was got, what is needed and what to do.

    EdgecarError
    ├── CheckpointError      a checkpoint cannot be read safely, or no network matches it
    ├── ExportError          a network cannot become an artifact
    │   └── GateError        an artifact was made but failed its check (exit code 3)
    ├── ArtifactError        an ONNX file lacks edgecar's metadata or they do not fit
    ├── EngineError          an engine cannot be opened or refuses a batch
    │   ├── AnswerError      an engine does not reproduce an artifact's known answer (exit code 3)
    │   └── ReuseError       reuse changed the output (exit code 3)
    ├── WindowError          a frame cannot be covered by windows
    ├── MediaError           a picture, clip or camera cannot be read or written
    │   └── StallError       a camera or network stream fell silent
    ├── BatchError           clips of an archive could not be restored, or must not be begun
    ├── DataError            training or evaluation data are missing or unfit
    ├── OutputError          a file cannot be written where it was asked for
    └── SettingsError        a recipe, size or option is not understood
"""

from edgecar.redaction import text_redacted


class EdgecarError(Exception):
    """Base of all failures that edgecar explains in one line, without passwords of addresses."""

    exit_code = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*(text_redacted(a) if isinstance(a, str) else a for a in args))


class CheckpointError(EdgecarError):
    """A checkpoint cannot be read safely, or no network in the zoo matches it."""


class ExportError(EdgecarError):
    """A network cannot become an artifact."""


class GateError(ExportError):
    """The check ran and the answer is no: nothing was written."""

    exit_code = 3


class ArtifactError(EdgecarError):
    """An ONNX file lacks edgecar's metadata, or they contradict its graph."""


class EngineError(EdgecarError):
    """An engine cannot be opened, or refuses what it was given."""


class AnswerError(EngineError):
    """The check ran and the answer is no: this machine computes an artifact wrongly."""

    exit_code = 3


class ReuseError(EngineError):
    """The check ran and the answer is no: reuse gave other bytes than computing everything."""

    exit_code = 3


class WindowError(EdgecarError):
    """A frame cannot be covered by the windows asked for."""


class MediaError(EdgecarError):
    """A picture, clip or camera cannot be read or written."""


class StallError(MediaError):
    """A camera or network stream fell silent."""


class BatchError(EdgecarError):
    """Clips of an archive could not be restored, or their restoring must not be begun."""


class DataError(EdgecarError):
    """Training or evaluation data are missing or unfit."""


class OutputError(EdgecarError, OSError):
    """A file cannot be written: the disk is full or read-only, or the name is not possible."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class SettingsError(EdgecarError):
    """A recipe, size or option is not understood."""
