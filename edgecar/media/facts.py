"""What a reader finds out about a stream and a writer needs to make another like it."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from edgecar.media.audio import Sound
from edgecar.media.frame import COLOUR_NOT_STATED, Colour
from edgecar.media.notes import NO_NOTES, Notes
from edgecar.spec import Size


class Still(NamedTuple):
    """A coded picture."""

    suffix: str
    """Suffix of a file that would hold the picture, such as ``.jpg``."""
    code: bytes


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """Shape, timing and colour of a video stream."""

    size: Size
    """``(height, width)`` in pixels."""
    rate: Fraction
    """Frames a second; the average where it varies."""
    time_base: Fraction
    """Seconds in one tick of a frame's ``pts``."""
    colour: Colour = COLOUR_NOT_STATED
    sample_aspect: Fraction | None = None
    """Width of a pixel over its height, 1 where it is stated to be square; None: not stated."""
    rotation_degrees: int = 0
    """Counter-clockwise turn that a player applies before it shows the picture."""
    mirrored: bool = False
    """True: a player swaps left and right after that turn."""
    audio_from: Path | None = None
    """The file that holds the audio of this video, if it can be opened again; None: no such file.
    A writer takes `sound`."""
    sound: Sound | None = field(default=None, repr=False, compare=False)
    """Coded audio of this video, which one writer takes; None: no audio."""
    notes: Notes = NO_NOTES
    """Title, chapters and other words of the file."""
    live: bool = False
    """True for cameras and network streams, whose clock starts anywhere."""
    still: Still | None = field(default=None, repr=False, compare=False)
    """The coded picture, where that is all that the source holds."""
