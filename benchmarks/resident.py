"""Most memory that a training process holds (VmHWM), on 1,000,000 × 115 float32 rows in a file, MEDNN's 115-83-128-83-1, Adam.

Each way is a process of its own, one thread, and visits random rows of the whole file, 782 steps of 128 (a tenth of a pass):

* Vedette, own process: `vedette.training.lowmem.process.taught_apart`, micro-batches of 32 rows, scaled as they are read.
* torch, streaming: a plain loop that reads each batch's rows with ``os.preadv``.
* Vedette, trainer torch: `LoopTrainer` over a table whose rows stay in the file.
* torch, all rows: the file read into one tensor.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from table import options, told

ROWS, WIDTHS, BATCH, STEPS = 1_000_000, (115, 83, 128, 83, 1), 128, 782

LOOP = """
import os, sys
import numpy as np
import torch
torch.set_num_threads(1)
widths, rows, batch, steps = (115, 83, 128, 83, 1), 1_000_000, 128, 782
layers = []
for inputs, outputs in zip(widths, widths[1:]):
    layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
module = torch.nn.Sequential(*layers[:-1])
optimiser = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
labels = torch.from_numpy(np.load(sys.argv[2]))
order = torch.randperm(rows)
BATCHES
for start in range(0, steps * batch, batch):
    at = order[start : start + batch]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(module(taken(at))[:, 0], labels[at].float())
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
"""

STREAMED = """
handle = os.open(sys.argv[1], os.O_RDONLY)
offset = os.fstat(handle).st_size - rows * widths[0] * 4
def taken(at):
    found = np.empty((len(at), widths[0]), np.float32)
    for place, row in enumerate(at.tolist()):
        os.preadv(handle, [found[place].data.cast("B")], offset + row * widths[0] * 4)
    return torch.from_numpy(found)
"""

HELD = """
x = torch.from_numpy(np.load(sys.argv[1]))
def taken(at):
    return x[at]
"""

TRAINER = """
import sys
from pathlib import Path
import numpy as np
import torch
from vedette.data.scaling import Scaling
from vedette.data.stored import Stored
from vedette.data.table import Feature, Table
from vedette.detectors.mlp import Mlp
from vedette.message import Channel
from vedette.training.task import Job, Optimiser, Task, Work
from vedette.training.trainer import LoopTrainer
torch.set_num_threads(1)
detector = Mlp(hidden=(83, 128, 83), scaling=Scaling(), optimiser=Optimiser(rate=1e-3, batch=128))
table = Table(tuple(Feature(f"x{i}") for i in range(115)), Stored(Path(sys.argv[1])), label=np.load(sys.argv[2]))
memory = detector.scaling.fitted(detector.scaling.summary(table.take(slice(0, 1000)))).memory()
list(LoopTrainer().run(detector, [Job("one", table, Work(tasks=(Task(steps=782),)), memory)], (Channel("model"),), 0, 0, "train"))
"""

TELL = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def peak(script: str, rows: Path, labels: Path) -> float:
    """Run a script in a process of its own; return its peak in MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script + TELL, str(rows), str(labels)], capture_output=True, text=True, check=True, env=environment
    )
    return int(done.stdout.split()[-1]) * 1024 / 1e6


def apart(rows: Path, labels: Path) -> tuple[float, float]:
    """Return the peak of Vedette's own process and what its buffers take, in MB."""
    from vedette.training.dense import Dense, parameters
    from vedette.training.lowmem.descent import Schedule
    from vedette.training.lowmem.lesson import Lesson, Rate
    from vedette.training.lowmem.process import FileRows, taught_apart
    from vedette.training.lowmem.rows import Affine
    from vedette.training.lowmem.update import Rule

    dense = [Dense(*pair, "relu" if pair[1] > 1 else "") for pair in itertools.pairwise(WIDTHS)]
    vector = np.random.default_rng(0).uniform(-0.1, 0.1, parameters(dense)).astype(np.float32)
    lesson = Lesson(
        dense, vector, "cross-entropy", BATCH, STEPS, Rule("adam"), Rate(1e-3), Schedule(), 32, "float32", 64, seed=0, scattered=True
    )
    handle, columns = os.open(rows, os.O_RDONLY), WIDTHS[0]
    try:
        file = FileRows(handle, rows.name, os.fstat(handle).st_size - ROWS * columns * 4, columns, "<f4", 0, None)
        line = Affine(np.zeros(columns), np.ones(columns), np.full(columns, 0.5), 1e6)
        taught, resident, *_ = taught_apart(lesson, file, line, np.load(labels))
    finally:
        os.close(handle)
    return resident / 1e6, taught.bytes / 1e6


def write(folder: Path) -> tuple[Path, Path]:
    """Make up rows and labels, a few at a time."""
    rng, rows, labels = np.random.default_rng(0), folder / "rows.npy", folder / "labels.npy"
    made = np.lib.format.open_memmap(rows, mode="w+", dtype=np.float32, shape=(ROWS, WIDTHS[0]))
    for start in range(0, ROWS, 50_000):
        made[start : start + 50_000] = rng.random((50_000, WIDTHS[0]), dtype=np.float32)
    np.save(labels, (made[:, 0] > 0.5).astype(np.int8))
    made.flush()
    return rows, labels


def main() -> None:
    chosen = options(__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, labels = write(Path(folder))
        own, buffers = apart(rows, labels)
        peaks = {
            "torch, streaming": peak(LOOP.replace("BATCHES", STREAMED), rows, labels),
            "Vedette, trainer torch": peak(TRAINER, rows, labels),
            "torch, all rows": peak(LOOP.replace("BATCHES", HELD), rows, labels),
        }
    found: list[dict[str, Any]] = [{"process": f"Vedette, own process ({buffers:.2f} MB of buffers)", "MB": own, "less": ""}]
    found += [{"process": name, "MB": size, "less": f"{1 - own / size:.1%}"} for name, size in peaks.items()]
    told("resident", found, chosen.json)


if __name__ == "__main__":
    main()
