"""Evasion at test time: how many anomalies a classifier misses when an attacker has changed what it sees of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.detectors.network import NetworkDetector
from vedette.errors import DataUnusable, DetectorMisused
from vedette.evaluation.setting import Setting
from vedette.message import Array
from vedette.seeds import stream
from vedette.training.evasion import Evasion, Range, evaded
from vedette.training.networks import Network

__all__ = ["Evaded", "evasions_among", "try_evasion"]


class Evaded(NamedTuple):
    """What came of an evasion; counts of several nodes add up.

    Attributes
    ----------
    anomalies
        Anomalous rows.
    missed, missed_after
        How many of them were called normal as they are, and as the attacker changed them.
    """

    anomalies: int
    missed: int
    missed_after: int


def try_evasion(detector: NetworkDetector, train: Table, test: Table, evasion: Evasion, seed: int) -> Evaded:
    """Count the anomalies of a table that a classifier misses, before and after evasion.

    Over windows the whole sample is changed, the rows before the anomalous one too, and each window by itself: windows that share a row
    need not agree on it, so the attacker can do more than one who sends each row once.

    Parameters
    ----------
    detector
        Fitted or federated.
    train
        Training rows, of both classes: the range that each feature really takes.
    test
        Rows with labels; the normal ones stay as they are.
    evasion
        How, and how far.
    seed
        For random starts.

    Raises
    ------
    DetectorMisused
        It is no classifier, or was loaded from a bundle without torch.
    DataUnusable
        There is no training row, or the test rows have no labels.
    """
    if detector.learning != "supervised":
        raise DetectorMisused(f"evasion is tried on classifiers, and {type(detector).__name__} is none: it learns from normal rows")
    network = detector.network()
    if not isinstance(network, Network):
        raise DetectorMisused("evasion follows a network's slope, which ONNX Runtime does not tell: load the bundle with engine='torch'")
    if test.label is None:
        raise DataUnusable("evasion is tried on anomalies, and the test rows have no labels")
    anomalous = test.label == 1
    within = Range.of(detector.samples(train, detector.memory))
    samples, rng, place = detector.samples(test, detector.memory), stream(seed, "evasion"), 0

    def attacked(chunk: Array) -> Array:
        nonlocal place
        shown, chosen = np.array(chunk), anomalous[place : place + len(chunk)]
        place += len(chunk)
        shown[chosen] = evaded(network, shown[chosen], within, evasion, rng)
        return detector.score_samples(shown)

    def missed(scores: Array) -> int:
        return int((~(scores[anomalous] > detector.threshold_)).sum())

    return Evaded(int(anomalous.sum()), missed(samples.scores(detector.score_samples)), missed(samples.scores(attacked)))


def evasions_among(method: str, setting: Setting, detectors: Mapping[str, Detector], evasion: Evasion) -> list[dict[str, Any]]:
    """Try to evade each node's classifier; detectors that learn no labels, and those without a network, are not tried."""
    tests, found = setting.tests["test"], []
    tried: dict[int, Evaded] = {}
    # What comes to all nodes may come from anywhere in the fleet.
    pooled = setting.train.pooled() if isinstance(tests, Table) else None
    for node in sorted(detectors):
        detector = detectors[node]
        table = tests if isinstance(tests, Table) else tests.get(node)
        if not isinstance(detector, NetworkDetector) or detector.learning != "supervised" or table is None or not len(table):
            continue
        if not isinstance(tests, Table) or id(detector) not in tried:
            tried[id(detector)] = try_evasion(detector, setting.train[node] if pooled is None else pooled, table, evasion, setting.seed)
        about = {"method": method, "protocol": setting.protocol, "seed": setting.seed, "fold": setting.fold, "node": node}
        about |= {"attack": evasion.name, "budget": evasion.budget}
        found.append({**about, **tried[id(detector)]._asdict()})
    return found
