"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from vedette.data.fleet import Fleet
from vedette.data.table import Coded, Feature, Table


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests read is kept in a folder of their own, also by the processes they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEDETTE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def data_root() -> Path:
    """The folder with the real benchmark data; tests that need it are skipped without."""
    root = os.environ.get("VEDETTE_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("needs the real data: set VEDETTE_DATA to the folder that holds kdd99, nsl-kdd, skab …")
    return Path(root).resolve()


def correlated(rows: int, features: int, seed: int, anomalies: float = 0.0, nodes_shift: float = 0.0) -> Table:
    """Rows on a plane with a little noise; anomalies have the same marginals, but leave the plane."""
    rng = np.random.default_rng(seed)
    plane = np.random.default_rng(99).normal(size=(2, features))
    x = (rng.normal(size=(rows, 2)) + nodes_shift) @ plane + rng.normal(0, 0.05, (rows, features))
    label = (rng.random(rows) < anomalies).astype(np.int8)
    strange = x[label == 1]
    for column in range(features):
        strange[:, column] = rng.permutation(strange[:, column])
    x[label == 1] = strange
    return Table(tuple(Feature(f"s{i}", unit="bar") for i in range(features)), x, label=label)


def with_category(table: Table, seed: int) -> Table:
    """The same table with a category feature that says nothing."""
    levels = ("green", "red", "yellow")
    codes = np.random.default_rng(seed).integers(0, 3, len(table)).astype(np.int32)
    return Table((*table.features, Feature("lamp", "category")), table.numbers, (Coded(codes, levels),), label=table.label)


@pytest.fixture
def fleet() -> Fleet:
    return three_nodes()


def three_nodes() -> Fleet:
    """Three nodes of different size, a tenth of the rows anomalous."""
    return Fleet.of({f"node-{i}": correlated(200 + 60 * i, 6, seed=i, anomalies=0.1, nodes_shift=0.3 * i) for i in range(3)})


# How long an example takes says more of the machine than of the code. The same examples each time, so that no clean change fails
# by a new one; others are tried by `make fuzz`.
hypothesis.settings.register_profile("vedette", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.register_profile("thorough", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "vedette"))
