"""Parts by name: detectors, strategies, data sets and the like, loaded when first asked for."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, TypeVar

from vedette.errors import UnknownName

__all__ = ["Registry", "suggestion"]

MOST = 12
"""Names listed in a message where none is near."""

T = TypeVar("T")
C = TypeVar("C")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, or list them all."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"known: {', '.join(names[:MOST])}{more}"


class Registry(Mapping[str, T]):
    """Names of one kind of part.

    Parameters
    ----------
    noun
        What the entries are, for messages: ``"strategy"``.
    lazy
        Name -> ``"module:attribute"``, imported at the first use, so that listing names costs nothing.
    """

    def __init__(self, noun: str, lazy: Mapping[str, str] | None = None) -> None:
        self.noun = noun
        self._entries: dict[str, T | str] = dict(lazy or {})

    def register(self, name: str) -> Callable[[C], C]:
        """Return a decorator that adds a part under `name`."""

        def add(part: C) -> C:
            self._entries[name] = part  # type: ignore[assignment]
            return part

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise UnknownName(f"unknown {self.noun} '{name}'; {suggestion(name, self._entries)}")
        entry = self._entries[name]
        if isinstance(entry, str):
            module, attribute = entry.split(":")
            entry = getattr(import_module(module), attribute)
            self._entries[name] = entry
        return entry

    def __contains__(self, name: Any) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
