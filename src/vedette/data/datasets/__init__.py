"""Data sets by name; each is one file, imported when first asked for."""

from vedette.data.dataset import Loader
from vedette.registry import Registry

__all__ = ["LOADERS"]

LOADERS: Registry[type[Loader]] = Registry(
    "data set",
    {
        "bot-iot": "vedette.data.datasets.bot_iot:BotIot",
        "iot-ddos": "vedette.data.datasets.iot_ddos:IotDdos",
        "joined": "vedette.data.datasets.joined:Joined",
        "kdd99": "vedette.data.datasets.kdd99:Kdd99",
        "kitsune": "vedette.data.datasets.kitsune:Kitsune",
        "n-baiot": "vedette.data.datasets.nbaiot:NBaiot",
        "nsl-kdd": "vedette.data.datasets.nsl_kdd:NslKdd",
        "simulated": "vedette.data.simulate:Simulated",
        "skab": "vedette.data.datasets.skab:Skab",
        "smd": "vedette.data.datasets.smd:Smd",
        "swat": "vedette.data.datasets.swat:Swat",
        "table": "vedette.data.datasets.table:TableFiles",
        "unsw-nb15": "vedette.data.datasets.unsw_nb15:UnswNb15",
        "wustl-iiot-2021": "vedette.data.datasets.wustl:WustlIiot2021",
        "wustl-scada-2018": "vedette.data.datasets.wustl:WustlScada2018",
    },
)
