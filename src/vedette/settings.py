"""Settings of parts: frozen, validated at the border, told apart by name."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from vedette.errors import RecipeError, UnknownName
from vedette.registry import Registry, suggestion

__all__ = ["Settings", "assign", "assignments", "build", "describe", "named", "validated"]

S = TypeVar("S", bound=BaseModel)


class Settings(BaseModel):
    """Base of everything a recipe can name: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def validated(model: type[S], values: Mapping[str, Any], where: str) -> S:
    """Build settings from plain values.

    Parameters
    ----------
    model
        The settings class.
    values
        What the user wrote.
    where
        The place it was written at, for messages: ``"[strategy]"``.

    Raises
    ------
    UnknownName
        A key that the settings do not have, with the nearest one.
    RecipeError
        A value of the wrong type or out of range.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        raise UnknownName(f"unknown key '{place}' in {where}; {suggestion(key, _keys_beside(model, problem['loc']))}")
    reason = problem["msg"].removeprefix("Value error, ")
    got = f" (got {problem['input']!r:.80})" if problem["type"] != "missing" else ""
    raise RecipeError(f"{where}{f' {place}' if place else ''}: {reason[:1].lower()}{reason[1:]}{got}")


def _keys_beside(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Names a key at `path` could have had."""
    for part in path[:-1]:
        field = model.model_fields.get(str(part))
        # A part of the path that is no field is a key of a mapping whose values are settings: the model is known already.
        if field is not None:
            kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
            model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return list(model.model_fields)


def build(registry: Registry[type[S]], settings: Mapping[str, Any] | str, where: str) -> S:
    """Build the part that `settings` names.

    Parameters
    ----------
    registry
        Where the name is looked up.
    settings
        ``{"name": "fedavg", "rounds": 20}``, or just the name.
    where
        The place it was written at, for messages.

    Raises
    ------
    UnknownName, RecipeError
        See `validated`.
    """
    values = {"name": settings} if isinstance(settings, str) else dict(settings)
    name = values.pop("name", None)
    if not isinstance(name, str):
        near = difflib.get_close_matches("name", values, n=1, cutoff=0.7)
        written = f" (is '{near[0]}' meant for it?)" if near else ""
        raise RecipeError(f"{where}: needs a 'name'{written}; known: {', '.join(sorted(registry))}")
    return validated(registry[name], values, f"{where} ({name})")


def describe(registry: Registry[type[S]], part: S) -> dict[str, Any]:
    """Say a part as JSON: the inverse of `build`."""
    name = next(name for name in registry if registry[name] is type(part))
    return {"name": name, **part.model_dump(mode="json")}


def assignments(changes: Sequence[str], example: str) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of texts such as ``"strategy.rounds=5"``; a value is read as TOML would, what is no TOML is text.

    Raises
    ------
    RecipeError
        A text without ``=``.
    """
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set takes key=value, such as {example} (got '{change}')")
        try:
            yield key.strip(), tomllib.loads(f"value = {text.strip()}")["value"]
        except tomllib.TOMLDecodeError:
            yield key.strip(), text.strip()


def assign(model: type[BaseModel], values: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key in the nested values of settings; a part given by its name alone becomes settings.

    Parameters
    ----------
    model
        The settings that the values are of.
    values
        What is set, in place.
    key, value
        ``"strategy.rounds"`` and what it shall be.
    where
        The place it was written at, for messages.

    Raises
    ------
    UnknownName
        The key's first part is none of the model's, with the nearest one.
    RecipeError
        It goes through a value that is no group of settings.
    """
    *path, last = key.split(".")
    at = values
    for part in path:
        if part not in at and at is values and part not in model.model_fields:
            raise UnknownName(f"unknown key '{key}' in {where}; {suggestion(part, model.model_fields)}")
        inner = at.setdefault(part, {})
        if isinstance(inner, str):
            inner = at[part] = {"name": inner}
        if not isinstance(inner, dict):
            raise RecipeError(f"{where}: '{key}' goes through '{part}', which is no group of settings")
        at = inner
    at[last] = value


def named(registry: Registry[type[S]]) -> tuple[BeforeValidator, PlainSerializer]:
    """Return what makes a field hold a part of a registry: ``Annotated[Threshold, *named(THRESHOLDS)]``.

    The part may be given as itself, by its name, or as settings with a name; it is said as settings with a name.
    """

    def built(value: Any) -> Any:
        return build(registry, value, registry.noun) if isinstance(value, str | Mapping) else value

    return BeforeValidator(built), PlainSerializer(lambda part: describe(registry, part))
