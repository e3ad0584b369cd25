"""The secure sum: an exchange learns the sum of what nodes send, and of no node what it sent."""

from typing import TYPE_CHECKING

from vedette.lazy import lazily

if TYPE_CHECKING:
    from vedette.strategies.chain.secure.fixed import Fixed
    from vedette.strategies.chain.secure.graph import Assumed, Terms, terms_for
    from vedette.strategies.chain.secure.party import advertise, masked, revealed, share
    from vedette.strategies.chain.secure.roll import Roll, forgotten
    from vedette.strategies.chain.secure.total import introduced, routed, summed, unmasked

__all__ = [
    "Assumed",
    "Fixed",
    "Roll",
    "Terms",
    "advertise",
    "forgotten",
    "introduced",
    "masked",
    "revealed",
    "routed",
    "share",
    "summed",
    "terms_for",
    "unmasked",
]

PLACES = {
    "fixed": ("Fixed",),
    "graph": ("Assumed", "Terms", "terms_for"),
    "party": ("advertise", "masked", "revealed", "share"),
    "roll": ("Roll", "forgotten"),
    "total": ("introduced", "routed", "summed", "unmasked"),
}

__getattr__ = lazily(__name__, {name: f"{__name__}.{module}" for module, names in PLACES.items() for name in names})
