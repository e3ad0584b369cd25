"""What a sentry is told to do, as settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from vedette.data.table import Feature
from vedette.edge.calibration import AnyCalibration
from vedette.edge.format import Format
from vedette.edge.incidents import IncidentSettings
from vedette.edge.mirror import BundleUrl
from vedette.edge.models import CareSettings
from vedette.edge.responses import Responses
from vedette.edge.rolling import Rolling
from vedette.edge.sinks.base import AnySink
from vedette.edge.sinks.stdout import Stdout
from vedette.edge.sources.base import AnySource
from vedette.errors import RecipeError, UnknownName
from vedette.registry import suggestion
from vedette.settings import Settings

__all__ = ["Watch"]


class Watch(Settings):
    """What a sentry is told to do.

    Parameters
    ----------
    source
        Where readings come from.
    format
        How they are laid out.
    bundle
        Web address of the detector, if it is not in a folder.
    engine
        What scores by the bundle: ONNX Runtime, or NumPy, which takes 30 MB less and several times as long (networks: dense ones only).
    sensors
        What a reading holds, where there is no bundle and the source does not know by itself.
    rolling
        The models that devices make of their own readings, where there is no bundle.
    calibration
        From which score on a reading is above the threshold; None: a contract with a bundle, else a share of readings.
    incidents
        When an incident opens and closes.
    sinks
        Who is told.
    responses
        What is done by itself.
    models
        How a newer bundle takes over.
    silent
        Seconds without a reading after which a device counts as silent.
    limit
        Bytes that readings and events may take on disk.
    """

    source: AnySource
    format: Format = Format()
    bundle: BundleUrl | None = None
    engine: Literal["onnx", "numpy"] = "onnx"
    sensors: tuple[str, ...] = ()
    rolling: Rolling = Rolling()
    calibration: AnyCalibration | None = None
    incidents: IncidentSettings = IncidentSettings()
    sinks: tuple[AnySink, ...] = (Stdout(),)
    responses: Responses = Responses()
    models: CareSettings = CareSettings()
    silent: float = Field(default=3600.0, gt=0)
    limit: int = Field(default=256 << 20, ge=1 << 20)

    @property
    def features(self) -> tuple[Feature, ...]:
        """What a reading holds where there is no bundle.

        Raises
        ------
        RecipeError
            Nobody says.
        """
        found = self.source.features or tuple(Feature(name) for name in self.sensors)
        if not found:
            raise RecipeError("without a bundle 'sensors' must say what a reading holds: --set 'sensors=[\"flow\", \"pressure\"]'")
        return found

    def demand(self, features: Sequence[Feature]) -> None:
        """Refuse a source that knows what it reads and never has what a detector wants.

        Raises
        ------
        UnknownName
            A feature that will not come, with the nearest one.
        """
        known = [feature.name for feature in self.source.features]
        for feature in features if known else ():
            wanted = self.format.fields.get(feature.name, feature.name)
            if wanted not in known:
                raise UnknownName(f"the bundle was trained on '{wanted}', which this source does not have; {suggestion(wanted, known)}")
