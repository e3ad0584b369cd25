"""Rounds of FedAvg by Flower's simulation, timed: `benchmarks/cohort.py` runs this in Flower's own environment.

So many Ray actors as the job says, one thread each; each keeps network, optimiser and rows from message to message (they are those of
this module, which actors import). What a node trains by is the plain loop's code: batches of shuffled rows, autograd, a fused optimiser.
Weights travel as NumPy arrays. No evaluation, no logging, no telemetry.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
import tempfile
import time
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

CHECKED = 10
"""Nodes whose rows the averaged network is tried on at the end."""

client = ClientApp()


class Bench(NamedTuple):
    """What an actor keeps from message to message."""

    job: dict[str, Any]
    network: torch.nn.Sequential
    moved: list[torch.nn.Parameter]
    optimiser: torch.optim.Optimizer
    rows: torch.Tensor


@cache
def bench(path: str) -> Bench:
    """Set up what a job needs."""
    torch.set_num_threads(1)
    job = json.loads(Path(path).read_text())
    layers: list[torch.nn.Module] = []
    for inputs, outputs in itertools.pairwise(job["widths"]):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    moved = list(network.parameters())
    # Each in its fastest form on one core: SGD is no faster fused.
    kind = partial(torch.optim.Adam, fused=True) if job["optimiser"] == "adam" else torch.optim.SGD
    return Bench(job, network, moved, kind(moved, lr=job["rate"]), torch.from_numpy(np.load(job["rows"])[: job["nodes"]]))


def load(moved: list[torch.nn.Parameter], arrays: ArrayRecord) -> None:
    with torch.no_grad():
        for parameter, array in zip(moved, arrays.to_numpy_ndarrays(), strict=True):
            parameter.copy_(torch.from_numpy(array))


@client.train()
def train(message: Message, context: Context) -> Message:
    """Train one node from the weights received and send its own."""
    job, network, moved, optimiser, rows = bench(str(message.content["config"]["job"]))
    mine = rows[int(context.node_config["partition-id"])]
    arrays = message.content["arrays"]
    if job["trains"]:
        load(moved, arrays)
        optimiser.state.clear()
        shuffled = mine[torch.randperm(len(mine))]
        for start in range(0, len(mine), job["batch"]):
            batch = shuffled[start : start + job["batch"]]
            optimiser.zero_grad(set_to_none=True)
            torch.nn.functional.mse_loss(network(batch), batch).backward()
            optimiser.step()
        arrays = ArrayRecord([parameter.detach().numpy() for parameter in moved])
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": len(mine)})})
    return Message(content, reply_to=message)


def main(path: str) -> None:
    job, network, moved, _, rows = bench(path)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(np.load(job["weights"])), moved)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    ends: list[float] = []
    server = ServerApp()

    def noted(round: int, arrays: ArrayRecord) -> None:
        ends.append(time.perf_counter())
        if round == job["warmup"] + job["rounds"]:
            load(moved, arrays)

    @server.main()
    def served(grid: Grid, context: Context) -> None:
        # How many are sampled is decided before all nodes have reported, unless it is said.
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=job["nodes"], min_available_nodes=job["nodes"])
        first = ArrayRecord([parameter.detach().numpy() for parameter in moved])
        asked = ConfigRecord({"job": path})
        strategy.start(grid, first, job["warmup"] + job["rounds"], train_config=asked, evaluate_fn=noted)

    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:
        ray = {"num_cpus": job["workers"], "logging_level": "error", "_temp_dir": scratch}
        run_simulation(
            server, client, job["nodes"], backend_config={"init_args": ray, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
        )
    some = rows[:CHECKED].flatten(0, 1)
    with torch.no_grad():
        error = float(torch.nn.functional.mse_loss(network(some), some))
    said = {
        "seconds": list(np.diff(ends[job["warmup"] :])),
        "nodes": job["nodes"],
        "loss": error,
        "versions": {name: version(name) for name in ("flwr", "ray", "torch", "numpy")},
    }
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    # By its name, so that actors import the client instead of unpickling it with each message.
    import flower_round

    flower_round.main(sys.argv[1])
