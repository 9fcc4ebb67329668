"""Earlier name of `edgecar.runtime.tiles`."""

from edgecar.runtime.tiles import (  # noqa: F401
    Tile as Window,
)
from edgecar.runtime.tiles import (
    aligned_size as aligned_size,
)
from edgecar.runtime.tiles import (
    plan_grid as plan_grid,
)
from edgecar.runtime.tiles import (
    plan_windows as plan_windows,
)
