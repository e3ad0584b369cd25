"""The process in which a footprint is measured; what it is given lies in a folder, what it finds goes to standard output."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from vedette.data.stored import Stored
from vedette.data.table import Feature, Table
from vedette.detectors.base import DETECTORS
from vedette.detectors.network import NetworkDetector
from vedette.files import read_memory
from vedette.message import Memory
from vedette.settings import build
from vedette.training.layers import needs_torch
from vedette.training.lowmem.process import peak_resident
from vedette.training.lowmem.trainer import LowmemTrainer
from vedette.training.task import Job, Task, Trainer, Work
from vedette.training.trainer import LoopTrainer
from vedette.training.trainers import TRAINERS

__all__ = ["main", "torch_step_bytes"]

STEPS = 4
METER = Path("/sys/class/powercap/intel-rapl:0")


def main() -> None:
    """Measure."""
    folder = Path(sys.argv[1])
    told = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    detector, trainer = build(DETECTORS, told["detector"], "detector"), build(TRAINERS, told["trainer"], "trainer")
    assert isinstance(detector, NetworkDetector)
    memory, _ = read_memory(folder / "state.safetensors")
    label = np.load(folder / "label.npy", allow_pickle=False)
    table = Table(tuple(Feature(name, unit=unit) for name, unit in told["features"]), Stored(folder / "rows.npy"), label=label)
    sys.stdout.write(json.dumps(_found(detector, trainer, table, memory, told["seed"])))


def _found(detector: NetworkDetector, trainer: Trainer, table: Table, memory: Memory, seed: int) -> dict[str, Any]:
    begun = {key: value for key, value in memory.items() if key.startswith("scaling.")}
    if isinstance(trainer, LowmemTrainer):
        apart = trainer.model_copy(update={"own_process": True, "nodes": ()})
        _, joules = _pass(detector, apart, table, begun, seed)
        resident, seconds = apart.resident, apart.seconds
        first, last = (apart.measured_step(detector, _job(table, state, STEPS), seed) for state in (begun, memory))
    else:
        # What torch loads when it is first used is no part of a pass.
        for _ in trainer.run(detector, [_job(table, begun, 1)], (), seed, 0, "train"):
            pass
        seconds, joules = _pass(detector, trainer, table, begun, seed)
        resident = peak_resident()
        first, last = None, None
        if isinstance(trainer, LoopTrainer):
            first, last = (torch_step_bytes(detector, _job(table, state, STEPS), seed) for state in (begun, memory))
    return {"step_first": first, "step_last": last, "resident": resident, "seconds": seconds, "joules": joules}


def _job(table: Table, memory: Memory, steps: int | None = None) -> Job:
    return Job("measured", table, Work(tasks=(Task(steps=steps),)), memory)


def _pass(detector: NetworkDetector, trainer: Trainer, table: Table, memory: Memory, seed: int) -> tuple[float, float | None]:
    """Return seconds and joules of one pass over the rows."""
    before, begin = _meter(), time.perf_counter()
    for _ in trainer.run(detector, [_job(table, memory)], (), seed, 0, "train"):
        pass
    seconds, after = time.perf_counter() - begin, _meter()
    if before is None or after is None:
        return seconds, None
    return seconds, ((after - before) % (_meter("max_energy_range_uj") or 2**62)) / 1e6


def _meter(name: str = "energy_uj") -> int | None:
    """Read the processor's own meter of energy (RAPL), in microjoules; None where it cannot be read."""
    try:
        return int((METER / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def torch_step_bytes(detector: NetworkDetector, job: Job, seed: int) -> int:
    """Return the peak bytes that torch allocates for a network, its optimiser and some steps, and one batch of rows beside.

    Rows that the trainer reads ahead are not counted: it could as well read them batch by batch.
    """
    torch = needs_torch()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        for _ in LoopTrainer().run(detector, [job], (), seed, 0, "train"):
            pass
    held = most = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most + detector.optimiser.batch * detector.window.size * detector.samples(job.rows, job.memory).scaler.width * 4


if __name__ == "__main__":
    main()
