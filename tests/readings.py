"""Tables of a few readings, and scalers fitted to the nodes that hold them."""

from __future__ import annotations

import numpy as np

from vedette.data.scaling import Scaler, Scaling
from vedette.data.table import Coded, Feature, Table

FLOW, STATE, HEAT = Feature("flow"), Feature("state", "category"), Feature("heat", unit="°C")
FEATURES = (FLOW, STATE, HEAT)


def table(flow: list[float], state: list[str] | None = None, heat: list[float] | None = None) -> Table:
    numbers = np.array([flow, heat if heat is not None else range(len(flow))], dtype=np.float64).T.reshape(-1, 2)
    return Table(FEATURES, numbers, (Coded.of(state if state is not None else ["on"] * len(flow)),))


def fit(scaling: Scaling, *parts: Table) -> Scaler:
    summaries = {f"node-{i}": scaling.summary(part) for i, part in enumerate(parts)}
    return scaling.fitted(scaling.merged(summaries))
