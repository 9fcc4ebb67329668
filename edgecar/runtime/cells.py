"""Earlier name of `edgecar.runtime.change_map`."""

from edgecar.runtime.change_map import (
    changed_cells as changed_cells,
)
