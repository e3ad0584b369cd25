"""What a measuring process finds out about trainers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import correlated
from vedette.data.stored import Stored
from vedette.data.table import Table
from vedette.detectors.autoencoder import Autoencoder
from vedette.evaluation.measured import _found, _job
from vedette.message import Memory
from vedette.training.cohort.trainer import CohortTrainer
from vedette.training.lowmem.trainer import LowmemTrainer
from vedette.training.task import Optimiser, Trainer
from vedette.training.trainer import LoopTrainer

ROWS: Table = correlated(200, 5, 0).normal()


@pytest.mark.parametrize(("trainer", "known"), [(LoopTrainer(), True), (LowmemTrainer(), True), (CohortTrainer(), False)])
def test_a_step_is_measured_of_who_trained_or_not_at_all(tmp_path: Path, trainer: Trainer, known: bool) -> None:
    """A cohort's steps are many nodes' at once: what torch's would have taken says nothing about them."""
    detector = Autoencoder(hidden=(3,), optimiser=Optimiser(batch=16))
    memory: Memory = detector.scaling.fitted(detector.scaling.summary(ROWS)).memory()
    ((_, _, trained),) = LoopTrainer().run(detector, [_job(ROWS, memory)], (), 1, 0, "train")
    np.save(tmp_path / "rows.npy", ROWS.numbers)
    found = _found(detector, trainer, Table(ROWS.features, Stored(tmp_path / "rows.npy"), label=ROWS.label), trained, 1)
    assert (found["step_first"] is not None, found["step_last"] is not None) == (known, known)
    assert found["resident"] > 1e6
    assert found["seconds"] > 0
