"""The folder of a run: what it holds while it is going on and when it is done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vedette.detectors.bundle import save_bundle
from vedette.errors import CheckpointError, StorageError
from vedette.evaluation.experiment import Experiment, Result
from vedette.evaluation.recipe import ProtocolName, Recipe
from vedette.evaluation.report import write_report
from vedette.files import write_atomic
from vedette.runtimes.workers import Workers
from vedette.version import __version__

__all__ = ["RunFolder"]


class RunFolder:
    """Holds ``run.json`` and ``checkpoints/`` while a run goes on; ``metrics.json``, ``report.html`` and ``detectors/`` when it is done.

    Parameters
    ----------
    path
        The folder; made when first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._mark = path / "run.json"

    def experiment(
        self, recipe: Recipe, root: Path | None, seed: int, protocols: Sequence[ProtocolName], resume: bool, workers: int | Workers = 1
    ) -> Experiment:
        """Open the folder for a run. With how many workers is not part of what it was: it may be resumed with others.

        Raises
        ------
        CheckpointError
            It holds an unfinished run and `resume` is not asked for, another recipe's results, or a run with other settings.
        StorageError
            The folder cannot be written, or is a file.
        """
        wanted = {"schema": "vedette.unfinished/1", "recipe": recipe.model_dump(mode="json"), "seed": seed, "protocols": list(protocols)}
        wanted |= {"data": None if root is None else str(root.resolve()), "version": __version__}
        # A run that was refused before its first round has nothing to go on from.
        going_on = self._read(self._mark) if self.checkpoints.is_dir() and any(self.checkpoints.iterdir()) else None
        if going_on is not None and not resume:
            raise CheckpointError(
                f"{self.path} holds an unfinished run of '{going_on.get('recipe', {}).get('name')}': "
                "go on with --resume, choose another --out, or delete the folder"
            )
        if going_on is not None and going_on != wanted:
            raise CheckpointError(f"{self.path} holds an unfinished run with other settings; resume it with the recipe and options it had")
        stored = self._read(self.path / "metrics.json")
        if stored is not None and stored.get("recipe") != recipe.name:
            raise CheckpointError(f"{self.path} holds the results of '{stored.get('recipe')}'; choose another --out")
        mark = json.dumps(wanted, indent=1)
        begun = partial(write_atomic, self._mark, mark)
        return Experiment(recipe, root, seed, protocols, self.checkpoints, resume, on_start=begun, workers=workers)

    def store(self, result: Result) -> list[Path]:
        """Write metrics, report and detectors, then drop the checkpoints; return the files to look at.

        Raises
        ------
        StorageError
            The folder cannot be written; checkpoints stay.
        """
        metrics, report = self.path / "metrics.json", self.path / "report.html"
        # Figures first: they are what took so long.
        write_atomic(metrics, json.dumps(result.run, indent=1))
        write_report(report, result.run, result.curves, result.traces, result.holdings, result.tradeoffs)
        for method, detectors in result.detectors.items():
            distinct = {id(detector): (node, detector) for node, detector in reversed(list(detectors.items()))}
            for node, detector in distinct.values():
                if not detector.bundled:
                    continue
                name = "fleet" if len(distinct) == 1 else _quoted(node)
                save_bundle(detector, self.path / "detectors" / method / name, _provenance(result.run, method, name))
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        self._mark.unlink(missing_ok=True)
        return [report, metrics]

    def _read(self, file: Path) -> dict[str, Any] | None:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise StorageError(f"cannot write into {self.path}: it is a file; choose a folder with --out") from None
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"cannot read {file}: {getattr(error, 'strerror', None) or error}; choose another --out or delete it"
            ) from None
        if not isinstance(found, dict):
            raise CheckpointError(f"{file} was not written by Vedette; choose another --out")
        return found


def _quoted(node: str) -> str:
    """Return a node's id as the name of a folder, different for different ids and never a way out of the folder above."""
    name = quote(node, safe=" ")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def _provenance(run: Mapping[str, Any], method: str, node: str) -> dict[str, Any]:
    """Say where a detector comes from."""
    about = {key: run[key] for key in ("recipe", "version", "runtime")}
    where = {"data": run["data"]["name"], "protocol": run["settings"]["protocol"], "seed": run["seeds"][0]}
    return {**about, **where, "method": method, "node": node}
