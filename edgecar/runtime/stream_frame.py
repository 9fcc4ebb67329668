"""Earlier name of `edgecar.runtime.camera`."""

from edgecar.runtime.camera import (
    StreamFrame as StreamFrame,
)
