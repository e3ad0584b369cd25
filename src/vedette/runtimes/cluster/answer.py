"""What comes of a unit: made in a worker, read by who gave it."""

from __future__ import annotations

import gc
import hashlib
import pickle
import traceback
from functools import cache
from typing import Any, NamedTuple

from vedette.runtimes.cluster.threads import one_thread

__all__ = ["Answer", "answered", "opened"]

SEAL = 16
"""Bytes of the checksum that an answer begins with."""


class Answer(NamedTuple):
    """What came of a unit.

    Attributes
    ----------
    result
        What its function returned.
    error
        What it raised instead.
    traceback
        Where.
    """

    result: Any = None
    error: Exception | None = None
    traceback: str = ""


def answered(unit: bytes) -> bytes:
    """Do a unit, a pickled function with its arguments; return what came of it, with a checksum before it."""
    try:
        # It comes from the process that began this one, or from Ray's driver, in one trust domain.
        function, arguments = pickle.loads(unit)  # noqa: S301
        with one_thread():
            answer = Answer(function(*arguments))
        said = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        said = _said(error)
    _settle()
    return hashlib.blake2b(said, digest_size=SEAL).digest() + said


def opened(reply: bytes) -> Answer | None:
    """Read a reply; None if it is not as it was sent."""
    said = memoryview(reply)[SEAL:]
    if hashlib.blake2b(said, digest_size=SEAL).digest() != reply[:SEAL]:
        return None
    answer = pickle.loads(said)  # noqa: S301 - of a worker of ours, and as it was sent
    return answer if isinstance(answer, Answer) else None


def _said(error: Exception) -> bytes:
    where = "".join(traceback.format_exception(error))
    try:
        said = pickle.dumps(Answer(None, error, where))
        pickle.loads(said)  # noqa: S301 - what was pickled a line before
    except Exception:
        # Some errors cannot be made anew from what they say.
        said = pickle.dumps(Answer(None, RuntimeError(f"{type(error).__name__}: {error}"), where))
    return said


@cache
def _settle() -> None:
    """Spare what was loaded for the first unit the search for garbage."""
    gc.collect()
    gc.freeze()
