"""Earlier name of `edgecar.runtime.stream_cache`."""

from edgecar.runtime.stream_cache import (
    LOSS_EVERY as LOSS_EVERY,
)
from edgecar.runtime.stream_cache import (
    Reuse as Reuse,
)
