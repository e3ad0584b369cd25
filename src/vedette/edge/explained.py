"""Explaining what was told: the values that were scored, scored again by the model of that time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vedette.data.table import Feature
from vedette.detectors.bundle import digest_of
from vedette.edge.events import Event
from vedette.edge.records import Records
from vedette.edge.rolling import Rolling, RollingScorer
from vedette.edge.scorer import Scorer, input_digest
from vedette.errors import CheckpointError
from vedette.message import Array

__all__ = ["Explained", "explained"]


class Explained(NamedTuple):
    """An event, scored again.

    Attributes
    ----------
    event
        As it was told. An incident that is updated or closed is explained by its last reading that was told of with a cause.
    features
        What the values are of.
    values
        [rows, features] float64, the raw values that were scored, the oldest first; the score is that of the last row.
    score
        What they score now.
    causes
        Features with the largest shares, in words.
    """

    event: Event
    features: tuple[Feature, ...]
    values: Array
    score: float
    causes: tuple[str, ...]


def explained(records: Records, key: str, most: int = 10) -> Explained:
    """Score again what an alert or incident was told for.

    Parameters
    ----------
    records
        Of the sentry.
    key
        Its id, or the beginning of it.
    most
        So many features, at most.

    Raises
    ------
    UnknownName
        There is no such event, or several.
    CheckpointError
        The values or the model are not kept any more, or are not those that were told of.
    """
    event = records.event(key).event
    # Incidents are told of again with the reading that they were told of before.
    sample = next((kept for kept in records.samples(event) if kept), b"")
    if not sample:
        raise CheckpointError(
            f"the values that event {event.id} was told for are not kept; explain the alert or the opening of {event.incident}"
        )
    scorer = _scorer(records, event)
    values = np.frombuffer(sample, dtype=np.float64).reshape(-1, len(scorer.features))
    if input_digest(values) != event.input:
        raise CheckpointError(f"the values kept with event {event.id} are not those it was told for")
    return Explained(event, scorer.features, values, scorer.exact(values), scorer.causes(values, most))


def _scorer(records: Records, event: Event) -> Scorer | RollingScorer:
    about = records.models().get(event.model)
    if about is None:
        raise CheckpointError(f"nothing is known of the model {event.model[:12]} that scored event {event.id}")
    if "rolling" in about:
        features = tuple(Feature(name, kind, unit) for name, kind, unit in about["features"])
        return Rolling.model_validate(about["rolling"]).open(features)
    folder = Path(about["bundle"])
    if digest_of(folder) != event.model:
        raise CheckpointError(f"{folder} is not the bundle any more that scored event {event.id}")
    return Scorer.of(folder, about.get("engine", "onnx"))
