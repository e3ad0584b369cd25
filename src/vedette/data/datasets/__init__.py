"""Data sets by name; each is one file, imported when first asked for."""

from vedette.data.dataset import Loader
from vedette.registry import Registry

__all__ = ["LOADERS"]

LOADERS: Registry[type[Loader]] = Registry(
    "data set",
    {
        "kdd99": "vedette.data.datasets.kdd99:Kdd99",
        "nsl-kdd": "vedette.data.datasets.nsl_kdd:NslKdd",
        "pumps": "vedette.data.simulate:Pumps",
        "skab": "vedette.data.datasets.skab:Skab",
        "table": "vedette.data.datasets.table:TableFiles",
    },
)
