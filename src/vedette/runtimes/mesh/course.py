"""The course of a run, step by step: where each party stands is one number."""

from __future__ import annotations

from typing import NamedTuple

from vedette.runtimes.base import Stage
from vedette.runtimes.phase import Run

__all__ = ["Step", "course_of"]


class Step(NamedTuple):
    """One phase.

    Attributes
    ----------
    stage, round
        Places of the stage in the plan and of the round in it; closing phases belong to the round after the last.
    phase
        Its name.
    closing
        Whether nothing is exchanged after it.
    """

    stage: int
    round: int
    phase: str
    closing: bool


def course_of(run: Run) -> list[Step]:
    """Return all steps of a run in order, those that close a stage behind its rounds."""
    return [step for place, stage in enumerate(run.stages) for step in _of_stage(place, stage)]


def _of_stage(place: int, stage: Stage) -> list[Step]:
    strategy = stage.strategy
    steps = [Step(place, round, phase, False) for round in range(strategy.rounds) for phase in strategy.phases]
    return steps + [Step(place, strategy.rounds, phase, True) for phase in strategy.closing]
