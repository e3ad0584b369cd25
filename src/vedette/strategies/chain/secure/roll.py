"""The roll: who takes part in a secure sum, with their public keys; all parties hold the same one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vedette.errors import MessageRefused, RecipeError
from vedette.message import Array, Memory, Message
from vedette.strategies.chain.secure.graph import Assumed, Terms, terms_for

__all__ = ["KEYS", "PREFIX", "Roll", "fits", "forgotten"]

KEYS = (3, 32)
"""A public key for parcels, one for masks, and what binds to the self-mask."""
PREFIX = "secure."
"""What begins like this in a memory or a message belongs to the secure sum."""


class Roll(NamedTuple):
    """Who takes part.

    Attributes
    ----------
    names
        Sorted: a node's place here is what it goes by.
    keys
        [nodes, 3, 32] uint8.
    seed
        What the graph is drawn from.
    terms
        Degree and threshold.
    """

    names: tuple[str, ...]
    keys: Array
    seed: str
    terms: Terms

    @classmethod
    def called(cls, keys: Mapping[str, Array], seed: str, assumed: Assumed) -> Roll:
        """Return the roll of those who sent keys, and leave out who sent anything else.

        Raises
        ------
        RecipeError
            They are too few for what is assumed.
        """
        names = tuple(sorted(name for name, array in keys.items() if fits(array, KEYS, "u1")))
        terms = terms_for(len(names), assumed)
        return cls(names, np.stack([keys[name] for name in names]), seed, terms)

    @classmethod
    def told(cls, inbox: Message, seed: str, assumed: Assumed) -> Roll:
        """Return the roll that a node was sent.

        Raises
        ------
        MessageRefused
            It is none, or names too few for what is assumed.
        """
        keys = inbox.tables.get(f"{PREFIX}keys")
        try:
            names = json.loads(str(inbox.facts[f"{PREFIX}names"]))
            if not isinstance(names, list) or names != sorted({str(name) for name in names}):
                raise ValueError
        except (KeyError, ValueError, TypeError, RecursionError):
            raise MessageRefused("the secure sum has no roll of nodes, sorted and each of them once") from None
        if not fits(keys, (len(names), *KEYS), "u1"):
            raise MessageRefused(f"the secure sum's roll of {len(names)} nodes has not the public keys of each")
        try:
            return cls.called(dict(zip(names, np.asarray(keys), strict=True)), seed, assumed)
        except RecipeError as error:
            raise MessageRefused(f"the secure sum's roll is too short: {error}") from None

    @classmethod
    def kept(cls, ours: Memory) -> Roll:
        """Return the roll that an exchange kept."""
        names, seed = (str(ours[f"{PREFIX}{name}"]) for name in ("names", "seed"))
        degree, threshold = (int(np.asarray(ours[f"{PREFIX}{name}"])) for name in ("degree", "threshold"))
        return cls(tuple(json.loads(names)), np.asarray(ours[f"{PREFIX}keys"]), seed, Terms(degree, threshold))

    def memory(self) -> Memory:
        """Return what `kept` reads."""
        return {
            f"{PREFIX}names": json.dumps(self.names),
            f"{PREFIX}keys": self.keys,
            f"{PREFIX}seed": self.seed,
            f"{PREFIX}degree": float(self.terms.degree),
            f"{PREFIX}threshold": float(self.terms.threshold),
        }

    def message(self) -> Message:
        """Return what `told` reads."""
        return Message(tables={f"{PREFIX}keys": self.keys}, facts={f"{PREFIX}names": json.dumps(self.names)})

    @property
    def digest(self) -> bytes:
        """What all who hold the same roll have in common (32 bytes)."""
        about = json.dumps([self.names, self.seed, *self.terms])
        return hashlib.sha256(about.encode() + self.keys.tobytes()).digest()


def forgotten(memory: Memory) -> Memory:
    """Return a memory without what belongs to the secure sum: secrets are for one round."""
    return {name: value for name, value in memory.items() if not name.startswith(PREFIX)}


def fits(array: Array | None, shape: tuple[int, ...], dtype: str) -> bool:
    """Tell whether a table that came is as it must be."""
    return array is not None and array.shape == shape and array.dtype == np.dtype(dtype)
