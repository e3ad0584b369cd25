"""Partitions: which node holds which row."""

from vedette.data.partition.base import Partition
from vedette.data.partition.counts import Counts, Wanted
from vedette.data.partition.levels import Dirichlet, Shards
from vedette.data.partition.natural import Natural
from vedette.data.partition.shares import Iid, Quantity
from vedette.data.partition.stretches import Stretches
from vedette.registry import Registry

__all__ = ["PARTITIONS", "Counts", "Dirichlet", "Iid", "Natural", "Partition", "Quantity", "Shards", "Stretches", "Wanted"]

PARTITIONS: Registry[type[Partition]] = Registry(
    "partition", {part.by: f"{part.__module__}:{part.__name__}" for part in (Natural, Iid, Quantity, Dirichlet, Shards, Stretches, Counts)}
)
