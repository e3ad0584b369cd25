"""One thread for each process: parallelism is over nodes and blocks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy multiply with one thread, as in a worker: with more, sums differ in their last bits. (Torch has one thread anywhere.)

    Libraries that are loaded within are not held to it, and without threadpoolctl, which comes with scikit-learn, none is.
    """
    controller = _controller("scipy" in sys.modules, "sklearn" in sys.modules)
    if controller is None:
        yield
        return
    with controller.limit(limits=1, user_api="blas"):
        yield


@cache
def _controller(*loaded: bool) -> Any:
    """Return what knows the libraries of this process that multiply, looked for anew when others may have been loaded."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
