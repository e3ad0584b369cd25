"""Figures round by round: how well detectors would do if training ended there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vedette.data.fleet import Fleet
from vedette.detectors.base import Detector
from vedette.errors import CheckpointError
from vedette.evaluation.methods import POOLED
from vedette.evaluation.plots import PANELS
from vedette.evaluation.scoring import metric_rows, score_fleet
from vedette.evaluation.setting import Setting
from vedette.files import write_atomic

__all__ = ["FOLLOWED", "Followed"]

SUFFIX = ".followed.json"

FOLLOWED = tuple(panel.key for panel in PANELS)
"""What is followed (the figures of P2PK-SMOTE, Wang et al. 2021, section 5.1.2)."""


class Followed:
    """Collects figures after rounds, in files too, so that an interrupted run loses none.

    Parameters
    ----------
    folder
        Where the files are; None keeps none.
    resume
        Go on with those that are there.

    Raises
    ------
    CheckpointError
        A file there is damaged.
    """

    def __init__(self, folder: Path | None, resume: bool = False) -> None:
        self._folder = folder
        files = [] if folder is None or not resume else sorted(folder.glob(f"*{SUFFIX}"))
        self._rows = {file.name: _read(file) for file in files}

    def add(self, setting: Setting, method: str, round: int, detectors: Mapping[str, Detector]) -> None:
        """Score detectors on the test rows.

        Parameters
        ----------
        setting
            Whose test rows.
        method, round
            What they belong to.
        detectors
            By node; those of compromised nodes are left out.
        """
        if POOLED in detectors:
            detectors = dict.fromkeys(setting.train, detectors[POOLED])
        honest = {node: detector for node, detector in detectors.items() if node not in setting.recipe.attackers.nodes}
        tests: Any = setting.tests["test"]
        about = {"method": method, "protocol": setting.protocol, "seed": setting.seed, "fold": setting.fold}
        found = metric_rows(score_fleet(honest, tests), {**about, "split": "test"})
        key = quote("-".join(str(value) for value in about.values() if value != ""), safe=" ") + SUFFIX
        told = self._rows.setdefault(key, {**about, "shared": not isinstance(tests, Fleet), "rounds": {}})
        told["rounds"][str(round)] = {row["node"]: [row[name] for name in FOLLOWED] for row in found}
        if self._folder is not None:
            write_atomic(self._folder / key, json.dumps(told))

    def told(self) -> list[dict[str, Any]]:
        """Return for each method, protocol, seed and fold the ``rounds``, and by node the figures, [rounds] each."""
        said = []
        for row in self._rows.values():
            rounds = sorted(row["rounds"], key=int)
            found = [row["rounds"][round] for round in rounds]
            # Where all nodes had the same detector in a round, it stands there once.
            by_node = {node: [each.get(node, each["*"]) for each in found] for node in sorted({node for each in found for node in each})}
            figures = {
                node: {name: [values[place] for values in each] for place, name in enumerate(FOLLOWED)} for node, each in by_node.items()
            }
            said.append({**row, "rounds": [int(round) for round in rounds], "nodes": figures})
        return said


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        dict(found["rounds"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); start anew with another --out") from None
    return dict(found)
