"""Many fields at once: out of a mapping, and out of JSON without a mapping between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

__all__ = ["getter", "object_parser"]


def getter(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """Return what takes several keys out of a mapping at once."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple(values[name] for name in names)


def object_parser(names: Sequence[str], numbers: int, extras: Sequence[str]) -> Callable[[bytes], list[tuple[Any, ...]]] | None:
    """Return a parser of an object, or a list of them, that builds no dictionaries; None where that cannot be.

    Parameters
    ----------
    names
        Keys of the values, those of numbers first.
    numbers
        How many of them are numbers, or null; the others are text. A payload where they are not is refused with a `ValueError`.
    extras
        Keys of whatever else is wanted; its values stand behind the others. None stands where something is missing.
    """
    import msgspec

    rename = {f"f{i}": name for i, name in enumerate((*names, *extras))}
    fields: list[tuple[str, Any, Any]] = [(f"f{i}", (float if i < numbers else str) | None, None) for i in range(len(names))]
    fields += [(f"f{i}", Any, None) for i in range(len(names), len(rename))]
    if any("." in name for name in extras) or len(set(rename.values())) < len(rename):
        return None
    try:
        kind: Any = msgspec.defstruct("Reading", fields, rename=rename, gc=False)
    except ValueError:
        return None  # a name with quotes or control characters in it
    decode, values = msgspec.json.Decoder(kind | list[kind]).decode, msgspec.structs.astuple

    def parsed(data: bytes) -> list[tuple[Any, ...]]:
        found: Any = decode(data)
        return [values(one) for one in found] if isinstance(found, list) else [values(found)]

    return parsed
