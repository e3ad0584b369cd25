"""Footprints: what training a method takes in memory, time and energy, measured in processes that do nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from vedette.data.scaling import Scaling
from vedette.data.table import Table
from vedette.data.windows import Window
from vedette.detectors.base import DETECTORS
from vedette.detectors.network import NetworkDetector
from vedette.errors import DataUnusable
from vedette.evaluation.methods import Made
from vedette.evaluation.setting import Setting
from vedette.files import write_memory
from vedette.settings import describe
from vedette.training.layout import layout_of
from vedette.training.lowmem.trainer import LowmemTrainer
from vedette.training.pruning import compacted, pruned_share
from vedette.training.trainers import TRAINERS

__all__ = ["footprint"]

MOST_ROWS = 50_000
"""Rows of a pass that is measured; more would only take longer."""


def footprint(method: str, setting: Setting, made: Made) -> dict[str, Any] | None:
    """Measure what a method's training takes on one node; None for methods that train no network.

    Parameters
    ----------
    method, setting
        What it belongs to.
    made
        The method, trained.

    Raises
    ------
    DataUnusable
        The process that measures failed.

    Returns
    -------
    dict
        ``step_first`` and ``step_last``: peak bytes of a training step, all told, with the network as it begins and as it is in the
        end (None unless torch or ``lowmem`` trained it); ``floor``: its weights and gradients alone; ``rows_bytes``: what it would take
        to hold the node's rows, scaled, as float32; ``resident``: most bytes the process held in one pass over the node's rows, streamed
        (VmHWM); ``model``: bytes of the network without what was pruned, in the precision it was trained in; ``pruned``: share of its
        weights; ``eliminated``: share of the weights of the network that was asked for, of which a budget may have left out some
        before; ``seconds`` and ``joules`` (None where no meter can be read) of the pass; ``plan``: what a memory budget chose;
        ``trainer``, ``parameters``, ``rows``.
    """
    if made.trained is None or not made.detectors:
        return None
    trainer, rows = made.trained
    detector = next(iter(made.detectors.values()))
    if not isinstance(detector, NetworkDetector):
        return None
    table = rows()
    some = table.take(slice(0, MOST_ROWS))
    kept = {key: value for key, value in detector.memory.items() if key.startswith(("scaling.", "network.", "layout."))}
    plain = detector
    if some.category_features or detector.window.size > 1 or detector.scaler.line is None:
        # What is no line of numbers is measured as rows that are scaled already.
        plain = detector.model_copy(update={"scaling": Scaling(numbers="none"), "window": Window()})
        some = Table.from_array(detector.samples(some, detector.memory).all(), some.label)
        kept |= plain.scaling.fitted(plain.scaling.summary(some)).memory()
    numbers = np.ascontiguousarray(some.numbers)
    label = np.zeros(len(numbers), dtype=np.int8) if some.label is None else some.label
    layers, weights = detector.layers, detector.weights_
    narrow, size = layout_of(compacted(layers, weights).layers).size, 4
    described, pruned = describe(TRAINERS, trainer), pruned_share(layers, weights)
    recipe, width, plan = setting.recipe, detector.window.size * detector.scaler.width, ""
    asked = recipe.variant(method) if method in recipe.variants else recipe.detector
    assert isinstance(asked, NetworkDetector)
    if isinstance(trainer, LowmemTrainer):
        size = 2 if trainer.planned_for(detector, width).precision == "float16" else 4
        plan = trainer.says(asked, width)
    whole = [layout_of(each).part(holds="weights").size for each in (layers, asked.networks(width)[asked.role])]
    with tempfile.TemporaryDirectory(prefix="vedette-") as name:
        folder = Path(name)
        np.save(folder / "rows.npy", numbers, allow_pickle=False)
        np.save(folder / "label.npy", label, allow_pickle=False)
        write_memory(folder / "state.safetensors", kept)
        said = {
            "detector": describe(DETECTORS, plain),
            "trainer": described,
            "features": [[feature.name, feature.unit] for feature in some.features],
            "seed": setting.seed,
        }
        (folder / "job.json").write_text(json.dumps(said), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "vedette.evaluation.measured", name],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no word"]
        raise DataUnusable(f"the footprint of '{method}' could not be measured: {last[0][:200]}")
    return {
        "method": method,
        "protocol": setting.protocol,
        "seed": setting.seed,
        "fold": setting.fold,
        "rows": len(table),
        "rows_bytes": len(table) * width * 4,
        "trainer": described["name"],
        "parameters": whole[0],
        "floor": 2 * size * whole[0],
        "model": size * narrow,
        "pruned": pruned,
        "eliminated": 1 - (1 - pruned) * whole[0] / whole[1],
        "plan": plan,
        **json.loads(done.stdout),
    }
