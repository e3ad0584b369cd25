"""Rounds of FedAvg by pfl-research's simulation, timed: `benchmarks/cohort.py` runs this in pfl's own environment.

One process, one thread, rows held as tensors and cut into batches once; no evaluation, no metrics, no logging, no post-processors (all
nodes have equally many rows, so that the plain mean is the mean weighted by rows). Rows are not shuffled, which pfl does not do either.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel

CHECKED = 10
"""Nodes whose rows the averaged network is tried on at the end."""


class Network(torch.nn.Sequential):
    """The autoencoder, with what pfl asks of a module."""

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.mse_loss(self(rows), rows)

    def metrics(self, rows: torch.Tensor) -> dict[str, Any]:
        return {}


class Clock(TrainingProcessCallback):
    """Notes when a round is over."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_central_iteration(self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int) -> tuple[bool, Metrics]:
        self.ends.append(time.perf_counter())
        return False, Metrics()


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in itertools.pairwise(job["widths"]):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    network = Network(*layers[:-1])
    torch.nn.utils.vector_to_parameters(torch.from_numpy(np.load(job["weights"])), network.parameters())
    rows = torch.from_numpy(np.load(job["rows"])[: job["nodes"]])
    kept = [Dataset([rows[node]]) for node in range(job["nodes"])]
    nodes = FederatedDataset(kept.__getitem__, get_user_sampler("minimize_reuse", list(range(job["nodes"]))))
    # Each in its fastest form on one core: SGD is no faster fused.
    kind = partial(torch.optim.Adam, fused=True) if job["optimiser"] == "adam" else torch.optim.SGD
    model = PyTorchModel(network, kind, torch.optim.SGD(network.parameters(), lr=1.0))
    # The first iteration evaluates whatever one asks for; it is one of those that do not count.
    rounds = job["warmup"] + job["rounds"]
    asked = NNAlgorithmParams(
        central_num_iterations=rounds, evaluation_frequency=rounds + 1, train_cohort_size=job["nodes"], val_cohort_size=None
    )
    local = NNTrainHyperParams(
        local_num_epochs=1 if job["trains"] else None,
        local_num_steps=None if job["trains"] else 0,
        local_learning_rate=job["rate"],
        local_batch_size=job["batch"],
    )
    clock = Clock()
    FederatedAveraging().run(asked, SimulatedBackend(nodes, nodes), model, local, callbacks=[clock], send_metrics_to_platform=False)
    some = rows[:CHECKED].flatten(0, 1)
    with torch.no_grad():
        error = float(network.loss(some))
    said = {
        "seconds": list(np.diff(clock.ends[job["warmup"] - 1 :])),
        "nodes": job["nodes"],
        "loss": error,
        "versions": {name: version(name) for name in ("pfl", "torch", "numpy")},
    }
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
