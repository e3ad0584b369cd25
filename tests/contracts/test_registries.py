"""Nothing registered is left out of these suites, and nothing written is left out of the registries."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

import vedette
from vedette.data.dataset import Loader
from vedette.data.datasets import LOADERS
from vedette.data.encoders import ENCODERS, CategoryEncoder
from vedette.data.partition import PARTITIONS, Partition
from vedette.data.rebalance import REBALANCERS, Rebalancer
from vedette.data.scalers import SCALERS, NumberScaler
from vedette.data.simulate import DEVICES, Device
from vedette.detectors.base import DETECTORS, Detector
from vedette.detectors.threshold import THRESHOLDS, Threshold
from vedette.edge.actions import ACTIONS, Action
from vedette.edge.calibration import CALIBRATIONS, Calibration
from vedette.edge.sinks.base import SINKS, Sink
from vedette.edge.sources.base import SOURCES, Source
from vedette.evaluation.methods import METHODS
from vedette.registry import Registry
from vedette.runtimes.topology import TOPOLOGIES, Topology
from vedette.strategies.aggregation import AGGREGATORS, Aggregator
from vedette.strategies.attacks import ATTACKS, Attack
from vedette.strategies.base import LINKS, STRATEGIES, Strategy
from vedette.strategies.chain.link import Link
from vedette.training.queries import QUERIES
from vedette.training.task import Trainer
from vedette.training.trainers import TRAINERS

SUITES = {
    "action": "edge/test_responses.py",
    "aggregator": "contracts/test_aggregators.py",
    "attack": "strategies/test_attacks.py",
    "calibration": "edge/test_calibration.py",
    "data set": "contracts/test_loaders.py",
    "detector": "contracts/test_detectors.py",
    "device": "data/test_simulate.py",
    "encoder": "contracts/test_encoders.py",
    "link": "strategies/test_chain.py",
    "method": "evaluation/test_experiment.py",
    "partition": "contracts/test_partitions.py",
    "rebalancer": "contracts/test_rebalancers.py",
    "query": "contracts/test_queries.py",
    "scaler": "contracts/test_scalers.py",
    "sink": "edge/test_sinks.py",
    "source": "contracts/test_sources.py",
    "strategy": "contracts/test_strategies.py",
    "threshold": "contracts/test_thresholds.py",
    "topology": "runtimes/test_topology.py",
    "trainer": "contracts/test_trainers.py",
}
"""Where everything registered under a noun is tested."""

BASES = [
    (LOADERS, Loader),
    (ENCODERS, CategoryEncoder),
    (PARTITIONS, Partition),
    (REBALANCERS, Rebalancer),
    (SCALERS, NumberScaler),
    (DETECTORS, Detector),
    (CALIBRATIONS, Calibration),
    (SOURCES, Source),
    (SINKS, Sink),
    (ACTIONS, Action),
    (DEVICES, Device),
    (THRESHOLDS, Threshold),
    (AGGREGATORS, Aggregator),
    (STRATEGIES, Strategy),
    (ATTACKS, Attack),
    (LINKS, Link),
    (TOPOLOGIES, Topology),
    (TRAINERS, Trainer),
]
OURS = [(registry.noun, name, registry[name]) for registry, _ in BASES for name in sorted(registry)]
CLASSES = [entry for entry in OURS if entry[2].__module__.startswith("vedette.")]  # tests may have registered probes


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(vedette.__path__, "vedette."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def test_every_registry_has_a_suite() -> None:
    found = {id(part): part.noun for module in modules() for part in vars(module).values() if isinstance(part, Registry)}
    assert sorted(found.values()) == sorted(SUITES)
    assert set(found) == {id(registry) for registry in (QUERIES, METHODS, *(registry for registry, _ in BASES))}
    for noun, suite in SUITES.items():
        assert (Path(__file__).parents[1] / suite).is_file(), f"no suite for '{noun}'"


@pytest.mark.parametrize(("registry", "base"), BASES, ids=lambda part: getattr(part, "noun", ""))
def test_every_class_that_can_be_named_is_registered(registry: Registry[type], base: type) -> None:
    classes = {part for module in modules() for part in vars(module).values() if inspect.isclass(part) and issubclass(part, base)}
    concrete = {part for part in classes if not inspect.isabstract(part) and not part.__name__.startswith("_") and part is not base}
    ours = {registry[name] for name in registry if registry[name].__module__.startswith("vedette.")}
    assert ours <= concrete
    # A base that several registered ones share need not be registered itself.
    assert not [part.__name__ for part in concrete if not any(issubclass(one, part) for one in ours)], "written but not registered"
    assert len(ours) == sum(registry[name].__module__.startswith("vedette.") for name in registry), "registered twice"


@pytest.mark.parametrize(("noun", "name", "part"), CLASSES, ids=[f"{noun}-{name}" for noun, name, _ in CLASSES])
def test_everything_registered_is_public_and_says_what_its_settings_do(noun: str, name: str, part: type) -> None:
    module = importlib.import_module(part.__module__)
    assert part.__name__ in getattr(module, "__all__", [part.__name__])
    assert name == name.lower()
    assert name.replace("-", "").isalnum(), "names are typed by people: letters, digits and hyphens"
    assert part.__doc__
    if issubclass(part, BaseModel):
        said = "\n".join(inspect.cleandoc(base.__doc__) for base in part.__mro__ if base.__doc__ and base.__module__.startswith("vedette."))
        documented = {entry.strip() for line in said.splitlines() if not line.startswith(" ") for entry in line.split(",")}
        assert set(part.model_fields) <= documented
