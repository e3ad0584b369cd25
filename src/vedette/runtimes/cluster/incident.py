"""What went wrong on a worker, and whose fault it was."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Incident"]


class Incident(NamedTuple):
    """A unit that a worker did not bring to its end, or a worker that ended without one.

    Attributes
    ----------
    host, pid
        The device, and the process there.
    step
        What the run was at: ``"train, round 3"``.
    unit
        What the worker was at: ``"node 'n7'"``; empty if nothing.
    cause
        What happened, in one line.
    traceback
        Of the worker, or what it wrote last; empty if nothing is known.
    """

    host: str
    pid: int
    step: str
    unit: str
    cause: str
    traceback: str = ""

    def __str__(self) -> str:
        what = f"{self.unit}, {self.step}" if self.unit else self.step
        return f"worker {self.host}:{self.pid} ({what}): {self.cause}"
