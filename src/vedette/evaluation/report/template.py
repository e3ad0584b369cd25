"""Templates of the pages, filled in: no text of a user can become markup."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from vedette.evaluation.plots import printable

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["rendered"]


def rendered(name: str, content: Mapping[str, Any]) -> str:
    """Fill in a template.

    Parameters
    ----------
    name
        Of a file beside this package; the others there can be included by it.
    content
        What it names, all of it.
    """
    return _templates().get_template(name).render(content).replace(" %", "\u00a0%")


@cache
def _templates() -> Environment:
    """Return what compiles templates, each once."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    def tamed(value: Any) -> Any:
        return printable(value, 2000) if isinstance(value, str) and not isinstance(value, Markup) else value

    def source(wanted: str) -> str:
        return resources.files("vedette.evaluation").joinpath(wanted).read_text(encoding="utf-8")

    page = Environment(
        loader=FunctionLoader(source), autoescape=True, undefined=StrictUndefined, finalize=tamed, trim_blocks=True, lstrip_blocks=True
    )
    page.filters["name"] = lambda value: printable(value, 80)
    page.filters["grouped"] = lambda value: f"{value:,}"
    page.filters["figure"] = Markup  # our own SVG; every name in it was escaped by Matplotlib
    return page
