"""The public API, checked by machine: every ``__all__`` is true, documented, and as docs/api.txt says.

``python tools/api.py --check`` fails on any difference; without it, docs/api.txt is written anew.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

import vedette

LISTING = Path(__file__).parent.parent / "docs" / "api.txt"


def modules() -> list[str]:
    """Return the names of all modules of the package."""
    found = pkgutil.walk_packages(vedette.__path__, "vedette.")
    return ["vedette", *sorted(module.name for module in found if not module.name.endswith("__main__"))]


def entry(module: str, name: str) -> tuple[str, list[str]]:
    """Return one line for a public name, and what is wrong with it."""
    held = importlib.import_module(module)
    try:
        thing = getattr(held, name)
    except AttributeError:
        return "", [f"{module}: '{name}' stands in __all__ but does not exist"]
    if inspect.isclass(thing):
        line, wrong = f"class {name}", []
        if thing.__module__.startswith("vedette") and not (thing.__doc__ or "").strip():
            wrong.append(f"{module}.{name} has no docstring")
    elif inspect.isfunction(thing):
        arguments = ", ".join(inspect.signature(thing).parameters)
        line, wrong = f"{name}({arguments})", [] if inspect.getdoc(thing) else [f"{module}.{name} has no docstring"]
    else:
        line, wrong = name, []
    return f"{module}: {line}", wrong


def main() -> int:
    """Check or write the listing."""
    lines: list[str] = []
    faults: list[str] = []
    for module in modules():
        held = importlib.import_module(module)
        if not (held.__doc__ or "").strip():
            faults.append(f"{module} has no docstring")
        names = getattr(held, "__all__", None)
        if names is None:
            if not module.endswith("__init__") and not hasattr(held, "__path__"):
                faults.append(f"{module} has no __all__")
            continue
        for name in sorted(names):
            line, wrong = entry(module, name)
            lines.append(line)
            faults += wrong
    text = "\n".join(lines) + "\n"
    if "--check" not in sys.argv:
        LISTING.write_text(text, encoding="utf-8")
    elif not LISTING.exists() or LISTING.read_text(encoding="utf-8") != text:
        was = set(LISTING.read_text(encoding="utf-8").splitlines()) if LISTING.exists() else set()
        changed = sorted(was ^ set(lines))
        faults.append(f"the public API differs from docs/api.txt (python tools/api.py writes it): {'; '.join(changed[:8])}")
    for fault in faults:
        print(f"api: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
