"""Three worker processes against this one: a dense autoencoder trained data-parallel on 400,000 × 41 rows, 10 epochs (Holdren 2022).

With --hindered: workers that wait for each other against workers that do not, left alone and with one that is stopped half of the time.
"""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from table import options, told

from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.detectors.autoencoder import Autoencoder
from vedette.evaluation.effort import Watch
from vedette.evaluation.methods import over
from vedette.runtimes.base import Round, plan_of
from vedette.runtimes.cluster.pool import hired
from vedette.runtimes.cluster.rays import needs_ray
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.workers import Workers
from vedette.strategies.base import Strategy
from vedette.strategies.local import Local
from vedette.strategies.parameter_server import ParameterServer
from vedette.training.task import Optimiser

FEATURES, BATCH, EPOCHS = 41, 2048, 10
DETECTOR = Autoencoder(hidden=(32, 16, 8), mirror="bottleneck", loss="mae", residual="absolute", optimiser=Optimiser(batch=BATCH))


def rows(count: int) -> Table:
    """Rows on a plane of eight dimensions, with a little noise."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(8, FEATURES))
    return Table.from_array((rng.normal(size=(count, 8)) @ plane + rng.normal(0, 0.1, (count, FEATURES))).astype(np.float32))


def trained(fleet: Fleet, strategy: Strategy, workers: Workers) -> dict[str, Any]:
    """Train, and return what it took."""
    watch = Watch()
    outcome = LocalRuntime(fleet, workers=workers).run(plan_of(DETECTOR, strategy, 0), lambda entry, _: watch.round_done(entry))
    return watch.told(outcome, strategy)


def to_the_first_step(fleet: Fleet, strategy: Strategy, workers: Workers) -> float:
    """Return the seconds until a step is done, the fitting of the scaling and the start of workers among them."""
    begin, ends = time.perf_counter(), []

    def on_round(entry: Round, _: Any) -> None:
        if entry.stage == "rounds":
            ends.append(time.perf_counter() - begin)

    LocalRuntime(fleet, workers=workers).run(plan_of(DETECTOR, strategy, 0), on_round)
    return float(ends[0])


def begun(workers: int) -> str:
    """Begin a Ray cluster of this machine, which ends with this process; return its address."""
    ray = needs_ray()
    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    return str(ray.get_runtime_context().gcs_address)


@contextmanager
def one_stopped(workers: Workers, seconds: float) -> Iterator[None]:
    """Let one worker process stand still for so long, and again after as long."""
    with hired(workers.dispatch.hiring) as pool:
        pid = pool.workers[0].pid
    over = threading.Event()

    def hinder() -> None:
        while not over.is_set():
            os.kill(pid, signal.SIGSTOP)
            over.wait(seconds)
            os.kill(pid, signal.SIGCONT)
            over.wait(seconds)

    thread = threading.Thread(target=hinder)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def hindered(shards: Fleet, workers: Workers, steps: int, repeats: int, seconds: float) -> list[dict[str, Any]]:
    """Return what training takes in both modes, left alone and hindered; in turn, so that a busy machine slows all."""
    modes = {
        mode: over(ParameterServer(mode=mode, steps=steps, epochs=EPOCHS), DETECTOR, shards) for mode in ("synchronous", "asynchronous")
    }
    # Workers that have loaded what they need.
    for strategy in modes.values():
        trained(shards, strategy, workers)
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(repeats):
        for mode, strategy in modes.items():
            runs.setdefault((mode, "none"), []).append(trained(shards, strategy, workers))
            with one_stopped(workers, seconds):
                runs.setdefault((mode, "one"), []).append(trained(shards, strategy, workers))
    keys = ("seconds", "later_epochs", "chief_cpu", "worker_cpu")
    return [
        {
            "mode": mode,
            "stopped": stopped,
            **{key: statistics.median(run[key] for run in each) for key in keys},
            "loss": each[0]["loss"][-1],
        }
        for (mode, stopped), each in runs.items()
    ]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--workers", type=int, default=3, help="how many workers, and shards (default: 3)")
    parser.add_argument("--rows", type=int, default=400_000, help="how many rows (default: 400,000)")
    parser.add_argument("--steps", type=int, default=65, help="local steps between two exchanges (default: 65, a third of an epoch)")
    parser.add_argument("--ray", metavar="auto|ADDRESS|local", help="workers of this Ray cluster, or of one begun here, not processes")
    parser.add_argument("--hindered", type=float, metavar="S", help="both modes, with a worker that is stopped for S seconds now and then")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    ray = begun(chosen.workers) if chosen.ray == "local" else chosen.ray
    one, many = Workers(1), Workers(chosen.workers, "cluster", ray)
    table = rows(chosen.rows)
    whole = Fleet.of({"all": table})
    owner = np.arange(len(table)) % chosen.workers
    shards = Fleet.of({f"shard-{shard + 1}": table.take(np.flatnonzero(owner == shard)) for shard in range(chosen.workers)})
    if chosen.hindered:
        told("cluster", hindered(shards, many, chosen.steps, chosen.repeats, chosen.hindered), chosen.json)
        return
    strategy = over(ParameterServer(steps=chosen.steps, epochs=EPOCHS), DETECTOR, shards)
    # Neither side has loaded anything yet.
    starts = {"workers": to_the_first_step(shards, strategy.model_copy(update={"steps": 1, "rounds": 1}), many)}
    starts["one process"] = to_the_first_step(whole, Local(rounds=1, epochs=BATCH / len(table)), one)
    # In turn, so that a busy machine slows both; whoever started stays.
    pairs = [(trained(whole, Local(rounds=EPOCHS), one), trained(shards, strategy, many)) for _ in range(chosen.repeats)]
    keys = ("seconds", "first_epoch", "later_epochs", "chief_cpu")
    lines: list[dict[str, Any]] = []
    for place, name in enumerate(("one process", "workers")):
        runs = [pair[place] for pair in pairs]
        medians = {key: statistics.median(run[key] for run in runs) for key in (*keys, "worker_cpu")}
        lines.append({"run": name, "to first step": starts[name], **medians, "bytes": runs[0]["bytes"], "loss": runs[0]["loss"][-1]})
    ratios = {key: statistics.median(other[key] / alone[key] for alone, other in pairs) for key in keys}
    later = starts["workers"] - starts["one process"]
    lines.append({"run": "ratio", "to first step": f"{later:+.2f} s", **ratios, "worker_cpu": "", "bytes": "", "loss": ""})
    told("cluster", lines, chosen.json)


if __name__ == "__main__":
    main()
