"""Affiliation precision and recall: how near flags lie to events, against flags thrown at random. A diagnostic, never a ranking."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vedette.errors import MissingExtra
from vedette.message import Array
from vedette.metrics.events import pair, runs

__all__ = ["Affiliation", "affiliation", "telemeval"]


class Affiliation(NamedTuple):
    """Sums over events, each judged in its own zone: the rows nearer to it than to any other event. Sums add up over series.

    Attributes
    ----------
    events
        Runs of anomalous rows.
    recall
        Sum of the events' recalls, 0 where nothing in the zone was flagged.
    flagged
        Events with a flag in their zone: only these have a precision.
    precision
        Sum of the precisions.
    """

    events: int = 0
    recall: float = 0.0
    flagged: int = 0
    precision: float = 0.0

    def plus(self, other: Affiliation) -> Affiliation:
        """Add the sums of another series."""
        return Affiliation(
            self.events + other.events, self.recall + other.recall, self.flagged + other.flagged, self.precision + other.precision
        )

    def rates(self) -> dict[str, float | None]:
        """Return the means over events, ``precision`` and ``recall``, and ``f1``.

        All are None without events; nothing flagged leaves precision None and F1 at 0.
        """
        if not self.events:
            return {"precision": None, "recall": None, "f1": None}
        recall, precision = self.recall / self.events, self.precision / self.flagged if self.flagged else None
        both = 2 * precision * recall / (precision + recall) if precision and recall else 0.0
        return {"precision": precision, "recall": recall, "f1": both}


def affiliation(label: Array, decision: Array) -> Affiliation:
    """Judge flags by their distance, in rows, from the events.

    Precision of an event is how much nearer its zone's flagged rows lie to it than a row picked at random from the zone would, 1 for
    flags inside it alone; recall is the same the other way round, from the event's rows to the nearest flag. Both compare with chance
    row by row, so that flags thrown at random, and flagging everything, get 0.5 for precision, more where anomalies are common (0.64 on
    SKAB), and 1 or nearly so for recall. Read it beside flag-all and random, and never rank detectors by it.

    What telemeval refuses does not arise: rows are their own clock (no falling or repeated times), decisions are 0 or 1 already (no
    threshold), and events are cut from the rows that were judged (none lies outside). A series without any event, which it refuses
    because no zone exists, counts for nothing: its false alarms are not seen here.

    Parameters
    ----------
    label
        [rows] of one series, in the order of time, 1 = anomaly.
    decision
        [rows], 1 = flagged.

    Raises
    ------
    ValueError
        The two differ in length.
    MissingExtra
        telemeval is not installed.

    References
    ----------
    Huet, Navarro and Rossi, "Local Evaluation of Time Series Anomaly Detection Algorithms", KDD 2022; computed by the authors' code, which
    telemeval carries.
    """
    truth, flagged = pair(label, decision)
    library = telemeval()
    if not truth.any():
        return Affiliation()
    import pandas as pd

    clock = pd.to_datetime(np.arange(len(truth)), unit="s")
    first, last = runs(truth)
    events = {"ID": np.arange(len(first)).astype(str), "Channel": "flags", "StartTime": clock[first], "EndTime": clock[last]}
    said = pd.DataFrame({"Timestamp": clock, "Score": flagged.astype(np.uint8)})
    found = library.score_affiliation(library.build_metric_inputs(pd.DataFrame(events), {"flags": said}), beta=1.0)
    recalls, precisions = found["individual_recall_probabilities"], found["individual_precision_probabilities"]
    known = [each for each in precisions if each is not None]
    return Affiliation(len(recalls), float(sum(recalls)), len(known), float(sum(known)))


def telemeval() -> Any:
    """Import the library.

    Raises
    ------
    MissingExtra
        It is not installed.
    """
    try:
        import telemeval as library
    except ImportError:
        raise MissingExtra("affiliation needs telemeval: pip install 'vedette[diagnostics]'") from None
    return library
