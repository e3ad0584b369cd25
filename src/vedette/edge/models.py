"""Care for models: a new bundle works in the shadow of the old one first, and gives way again where it does worse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, cast

import numpy as np
from pydantic import Field

from vedette.detectors.bundle import FILES, Engine, digest_of, load_bundle
from vedette.edge.drift import Drift
from vedette.edge.judge import Judge, Judged
from vedette.edge.readings import Readings
from vedette.edge.scorer import Scorer, part_of, parts_as
from vedette.errors import CheckpointError, DetectorMisused, StorageError
from vedette.files import write_atomic
from vedette.message import Memory
from vedette.settings import Settings

__all__ = ["CareSettings", "ModelCare", "Station", "Verdict", "Versions"]

Phase: TypeAlias = Literal["steady", "shadow", "probation"]
Decision: TypeAlias = Literal["swapped", "refused", "rolled-back", "kept"]

LEAST = 10
"""Readings above the threshold that prove nothing."""


class CareSettings(Settings):
    """When a new model takes over, and when it gives way again.

    Parameters
    ----------
    shadow
        Readings that it is scored beside the old one before it may take over.
    probation
        Readings after that for which the old one is kept at work, to be taken back.
    jump
        How many times as many readings above the threshold as the old one it may have.
    drift
        How much larger the stability index of its scores may be than that of the old one's (`Drift.scores`).
    versions
        Bundles that are kept.
    """

    shadow: int = Field(default=2000, ge=1)
    probation: int = Field(default=10_000, ge=1)
    jump: float = Field(default=2.0, ge=1)
    drift: float = Field(default=0.25, gt=0)
    versions: int = Field(default=5, ge=2)


class Verdict(NamedTuple):
    """What was decided about a model.

    Attributes
    ----------
    kind
        ``"swapped"``: it took over; ``"refused"``: it did not; ``"rolled-back"``: it gave way again; ``"kept"``: its probation is over.
    digest
        Of its bundle.
    why
        In a few words, with the numbers.
    """

    kind: Decision
    digest: str
    why: str


class Station:
    """A model at work: its scorer, what judges its scores, and how far it has drifted.

    Parameters
    ----------
    scorer
        Of a bundle.
    judge
        With thresholds of its own.
    """

    def __init__(self, scorer: Scorer, judge: Judge) -> None:
        self.scorer, self.judge, self.drift = scorer, judge, Drift(scorer.detector)
        self.above = 0

    def watch(self, readings: Readings) -> Judged:
        """Score and judge a batch."""
        judged = self.judge.watch(self.scorer, readings)
        self.above += int(np.count_nonzero(judged.scores > judged.thresholds))
        self.drift.take(readings, judged.scores)
        return judged

    def memory(self) -> Memory:
        """Return what is known of all devices, but incidents."""
        parts = {"scorer": self.scorer.memory(), "calibration": self.judge.calibrated.memory(), "drift": self.drift.memory()}
        return parts_as({**parts, "": {"above": float(self.above)}})

    def restore(self, memory: Memory) -> None:
        """Take over what `memory` returned."""
        self.scorer.restore(part_of(memory, "scorer"))
        self.judge.calibrated.restore(part_of(memory, "calibration"))
        self.drift.restore(part_of(memory, "drift"))
        self.above = int(cast(float, memory["above"]))


class ModelCare:
    """Keeps one model at work and at most one beside it.

    Which reading a model changes at follows from the readings since it was offered alone. Incidents go on across a change; thresholds are
    the new model's own, which it found in the shadow.

    Parameters
    ----------
    active
        The model at work.
    beside
        Makes what judges a new model's scores, with incidents that nobody is told of.
    settings
        When models change.

    Attributes
    ----------
    verdicts
        What was decided since it was last looked at; whoever reads them empties the list.
    """

    def __init__(self, active: Station, beside: Callable[[Scorer], Judge], settings: CareSettings | None = None) -> None:
        self.active, self._beside, self.settings = active, beside, settings or CareSettings()
        self.other: Station | None = None
        self.phase: Phase = "steady"
        self.left = 0
        self.verdicts: list[Verdict] = []

    def offer(self, scorer: Scorer) -> None:
        """Begin to score a new model beside the one at work; whatever else was there goes.

        Raises
        ------
        CheckpointError
            It was trained on other features.
        """
        if scorer.features != self.active.scorer.features:
            raise CheckpointError("the new bundle was trained on other features than the one at work: watch with it anew")
        self.other = Station(scorer, self._beside(scorer))
        self._begin("shadow", self.settings.shadow)

    def watch(self, readings: Readings) -> Judged:
        """Score and judge a batch by the model at work, which may change between two of its readings."""
        found: list[Judged] = []
        first = 0
        while first < len(readings) or not found:
            last = len(readings) if self.other is None else min(len(readings), first + self.left)
            part = readings.take(slice(first, last))
            found.append(self.active.watch(part))
            if self.other is not None:
                self.other.watch(part)
                self.left -= last - first
                if self.left <= 0:
                    self._decide()
            first = last
        if len(found) == 1:
            return found[0]
        scores, thresholds, inside = (np.concatenate(column) for column in zip(*(each[:3] for each in found), strict=True))
        return Judged(scores, thresholds, inside, [event for each in found for event in each.events])

    @property
    def digests(self) -> list[str]:
        """Digests of the models it has: that at work, and the one beside it if there is one."""
        return [station.scorer.digest for station in (self.active, self.other) if station is not None]

    def memory(self) -> Memory:
        """Return what is known by both models but incidents, which stand beside; `digests` says which models they are."""
        parts = {"active": self.active.memory(), **({} if self.other is None else {"other": self.other.memory()})}
        return parts_as({**parts, "": {"phase": self.phase, "left": float(self.left)}})

    def restore(self, memory: Memory, other: Scorer | None) -> None:
        """Take over what `memory` returned.

        Parameters
        ----------
        memory
            Of the same models; the one at work is there already.
        other
            The one beside it.
        """
        self.active.restore(part_of(memory, "active"))
        self.other = None if other is None else Station(other, self._beside(other))
        if self.other is not None:
            self.other.restore(part_of(memory, "other"))
        self.phase, self.left = cast(Phase, str(memory["phase"])), int(cast(float, memory["left"]))

    def _begin(self, phase: Phase, readings: int) -> None:
        self.phase, self.left = phase, readings
        self.active.above = 0
        if self.other is not None:
            self.other.above = 0

    def _decide(self) -> None:
        assert self.other is not None
        new, old = (self.other, self.active) if self.phase == "shadow" else (self.active, self.other)
        wrong = self._wrong(new, old)
        numbers = f"{new.above} readings above its threshold where the old model had {old.above}"
        if self.phase == "shadow":
            if wrong:
                self.other = None
                self._tell("refused", new, wrong)
            else:
                self._swap()
                self._tell("swapped", new, numbers)
                self._begin("probation", self.settings.probation)
                return
        elif wrong:
            self._swap()
            self.other = None
            self._tell("rolled-back", new, wrong)
        else:
            self.other = None
            self._tell("kept", new, numbers)
        self._begin("steady", 0)

    def _swap(self) -> None:
        """Change places; the incidents that are told of stay with whoever is at work."""
        assert self.other is not None
        one, two = self.active.judge, self.other.judge
        one.incidents, two.incidents = two.incidents, one.incidents
        self.active, self.other = self.other, self.active

    def _wrong(self, new: Station, old: Station) -> str:
        """Say what speaks against a new model; "" if nothing."""
        if new.above > max(LEAST, self.settings.jump * old.above):
            return f"{new.above} readings above its threshold where the old model had {old.above}"
        if new.drift.scores > old.drift.scores + self.settings.drift:
            indices = f"stability index {new.drift.scores:.2f}, the old model's {old.drift.scores:.2f}"
            return f"its scores are not those it was calibrated by: {indices}"
        return ""

    def _tell(self, kind: Decision, station: Station, why: str) -> None:
        self.verdicts.append(Verdict(kind, station.scorer.digest, why))


class Versions:
    """Bundles that were at work or may be, in folders named by their digest, so that alerts can be explained later.

    Parameters
    ----------
    folder
        Where they are kept; made if it is not there.
    most
        How many; the oldest goes first, never the one at work.
    engine
        What must be able to run them.
    """

    def __init__(self, folder: Path, most: int = 5, engine: Engine = "onnx") -> None:
        self.folder, self.most, self.engine = folder, most, engine
        self._seen = ""

    @property
    def digests(self) -> list[str]:
        """What is kept, the oldest first; the last is at work, or was."""
        try:
            found = json.loads((self.folder / "versions.json").read_text(encoding="utf-8"))
            return [str(each) for each in found["digests"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(f"cannot read {self.folder / 'versions.json'}: {error}; remove the folder to begin anew") from None

    def place(self, digest: str) -> Path:
        """Return the folder of a version.

        Raises
        ------
        CheckpointError
            It is not kept any more.
        """
        if digest not in self.digests:
            raise CheckpointError(f"the model {digest[:12]}… is not kept any more; more are with a larger 'versions'")
        return self.folder / digest

    def keep(self, bundle: Path) -> Path:
        """Copy a bundle, once it was seen to hold together, and make it the newest version; return its folder.

        Raises
        ------
        CheckpointError, DetectorMisused
            See `load_bundle`.
        StorageError
            It cannot be written.
        """
        fresh = self.folder / ".fresh"
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            for name in FILES:
                if (bundle / name).exists():
                    shutil.copyfile(bundle / name, fresh / name)
            # What is checked is the copy: the folder it comes from may be written at this moment.
            load_bundle(fresh, self.engine)
            digest = digest_of(fresh)
            if not (self.folder / digest).exists():
                fresh.rename(self.folder / digest)
            shutil.rmtree(fresh, ignore_errors=True)
            self._note([*(each for each in self.digests if each != digest), digest])
        except (CheckpointError, DetectorMisused) as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise type(error)(str(error).replace(str(fresh), str(bundle))) from None
        except OSError as error:
            raise StorageError(f"cannot keep a model in {self.folder}: {error.strerror or error}") from None
        return self.folder / digest

    def back(self, digest: str) -> None:
        """Make a version the newest again."""
        self._note([*(each for each in self.digests if each != digest), digest])

    def arrived(self, bundle: Path) -> bool:
        """Say whether a watched folder holds another bundle than when this was last asked, or than the newest version."""
        try:
            digest = digest_of(bundle)
        except CheckpointError:
            return False
        known, self._seen = self._seen, digest
        return digest != known and digest not in self.digests[-1:]

    def _note(self, digests: list[str]) -> None:
        kept = digests[-self.most :]
        write_atomic(self.folder / "versions.json", json.dumps({"schema": "vedette.versions/1", "digests": kept}))
        for digest in digests[: -self.most]:
            shutil.rmtree(self.folder / digest, ignore_errors=True)
