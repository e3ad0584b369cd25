"""Trainers by name."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from vedette.registry import Registry
from vedette.settings import named
from vedette.training.task import Trainer

__all__ = ["TRAINERS", "AnyTrainer"]

TRAINERS: Registry[type[Trainer]] = Registry(
    "trainer",
    {
        "torch": "vedette.training.trainer:LoopTrainer",
        "cohort": "vedette.training.cohort.trainer:CohortTrainer",
        "dp-sgd": "vedette.training.dpsgd:DpSgdTrainer",
        "lowmem": "vedette.training.lowmem.trainer:LowmemTrainer",
    },
)

AnyTrainer: TypeAlias = Annotated[Trainer, *named(TRAINERS)]
