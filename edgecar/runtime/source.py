"""Earlier name of `edgecar.runtime.camera`."""

from edgecar.runtime.camera import (
    Camera as Camera,
)
from edgecar.runtime.camera import (
    FrameSource as FrameSource,
)
from edgecar.runtime.camera import (
    PipelineSettings as PipelineSettings,
)
