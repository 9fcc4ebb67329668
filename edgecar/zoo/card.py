"""Card of a network: its name, configurations and how its checkpoints are recognised."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from edgecar.errors import SettingsError
from edgecar.spec import Context

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Recognised:
    """Configuration and state dict of a checkpoint that a card understood."""

    config: Any
    state: State


@dataclass(frozen=True)
class Card:
    """One network of the zoo.

    Attributes:
        name: Name that users type.
        paper: Paper that describes the network.
        configs: Published configuration by number of channels (1 luma, 3 RGB).
        build: Configuration to network, with fresh weights.
        recognise: State dict to configuration and renamed state dict; None: another network.
        context: ``local`` for a finite receptive field, ``windowed`` if a tile is its own picture.
        align_px: Sides of what the network reads are multiples of this.
        by_shape: Configurations whose weights are known by their shapes, whatever their names are.
    """

    name: str
    paper: str
    configs: Mapping[int, Any]
    build: Callable[[Any], nn.Module]
    recognise: Callable[[State], Recognised | None]
    context: Context = "local"
    align_px: int = 1
    by_shape: tuple[Any, ...] = ()

    def config(self, channels: int = 1) -> Any:
        """Return the published configuration; SettingsError if there is none for the channels."""
        if channels not in self.configs:
            known = " or ".join(str(count) for count in self.configs)
            raise SettingsError(
                f"{self.name} has {known} channel(s), not {channels}; choose --channels {known}"
            )
        return self.configs[channels]


def takes_quantiser(network: nn.Module) -> bool:
    """Return True if a network has a second input, the quantiser."""
    return bool(getattr(network, "takes_quantiser", False))


def numbered(state: State, prefix: str) -> list[int]:
    """Return the sorted numbers n of the keys ``<prefix><n>.weight``."""
    middles = (k.removeprefix(prefix).removesuffix(".weight") for k in state)
    return sorted({int(n) for n in middles if n.isdigit() and f"{prefix}{n}.weight" in state})
