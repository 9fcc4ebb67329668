"""The networks of the zoo: one explicit list."""

from difflib import get_close_matches

from edgecar.errors import SettingsError
from edgecar.zoo import arcnn, carcnn, dncnn, edgecar_net, fastarcnn, glfusion, msfan
from edgecar.zoo.card import Card

CARDS: tuple[Card, ...] = (
    arcnn.CARD,
    fastarcnn.CARD,
    dncnn.CARD,
    msfan.CARD,
    carcnn.CARD,
    glfusion.CARD,
    edgecar_net.XS,
    edgecar_net.S,
    edgecar_net.M,
)


def card_named(name: str) -> Card:
    """The card called ``name``.

    Raises:
        SettingsError: No network has that name; the nearest names are given.
    """
    by_name = {card.name: card for card in CARDS}
    if name not in by_name:
        near = get_close_matches(name, by_name, n=2, cutoff=0.3) or list(by_name)
        raise SettingsError(f"no network is called {name!r}; did you mean {' or '.join(near)}?")
    return by_name[name]
