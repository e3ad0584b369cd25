"""Rows of a network to be shared out, and how many of them each node gets."""

from __future__ import annotations

from typing import Any

import numpy as np

from vedette.data.partition import Partition
from vedette.data.table import Coded, Feature, Table

SERVICES = ["dns", "ftp", "http", "smtp", "ssh"]
PARTS: dict[str, dict[str, Any]] = {
    "natural": {},
    "iid": {"nodes": 4},
    "quantity": {"nodes": 4, "min_rows": 20},
    "dirichlet": {"nodes": 4, "min_rows": 20, "over": "service"},
    "shards": {"nodes": 4, "shards": 3, "over": "service"},
    "counts": {"rows": {"x": {"normal": 200, "anomaly": 30}, "y": {"group": "a", "normal": 50, "kinds": {"attack": 10}}}},
}


def rows(count: int, seed: int, services: list[str] = SERVICES) -> Table:
    """Rows of a network: a number that is the row's own, a service, a label that depends on it, a device."""
    rng = np.random.default_rng(seed)
    service = rng.choice(services, count, p=np.arange(1, len(services) + 1) / sum(range(1, len(services) + 1)))
    attack = rng.random(count) < np.where(service == services[0], 0.6, 0.2)
    return Table(
        (Feature("row"), Feature("service", "category")),
        np.arange(count, dtype=np.float64)[:, None],
        (Coded.of(service.tolist()),),
        label=attack.astype(np.int8),
        kind=Coded.of(np.where(attack, "attack", "normal").tolist()),
        group=Coded.of(rng.choice(["b", "a", "c"], count).tolist()),
    )


TRAIN, TEST = rows(1000, 1), rows(600, 2)


def counts(partition: Partition, train: Table, table: Table, rows: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    places = partition.places(train, table, "train" if table is train else "test", seed)
    places = places if rows is None else places[rows]
    return np.bincount(places[places >= 0], minlength=len(partition.names(train)))
