"""Earlier name of `edgecar.runtime.tune`."""

from edgecar.runtime.tune import (
    MIN_ROUNDS as MIN_ROUNDS,
)
from edgecar.runtime.tune import (
    Pass as Pass,
)
from edgecar.runtime.tune import (
    median_ratio as median_ratio,
)
from edgecar.runtime.tune import (
    timed_rounds as timed_rounds,
)
