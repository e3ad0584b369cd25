"""The agent: a source read, a sentry asked, all stored before anybody is told; after a kill at any moment it goes on where it was."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vedette.edge.calibration import Rate, Realised
from vedette.edge.contract import Contract
from vedette.edge.couriers import Couriers, Delivery, Told
from vedette.edge.decoding import Decoder
from vedette.edge.events import Event
from vedette.edge.journal import packed, unpacked
from vedette.edge.mirror import Mirror
from vedette.edge.models import Versions
from vedette.edge.readings import Devices, Readings
from vedette.edge.rolling import RollingScorer
from vedette.edge.scorer import Scorer, part_of, parts_as
from vedette.edge.sentry import Sentry
from vedette.edge.silence import Silence
from vedette.edge.sinks.base import SINKS, AnySink
from vedette.edge.sources.base import Feed
from vedette.edge.store import Recovered, Store
from vedette.edge.watch import Watch
from vedette.errors import CheckpointError, DetectorMisused, RecipeError, StorageError
from vedette.settings import describe

__all__ = ["Agent", "Status"]

log = logging.getLogger(__name__)

WAIT = 0.2
"""Seconds that a source is waited for before it is looked at what else there is to do."""

LOOK = 1.0
"""Seconds between two looks whether there is a new bundle."""

SNAPSHOT = 300.0
"""Seconds between two snapshots, at most, where anything was read: what is read again after a kill."""


class Status(NamedTuple):
    """How it stands with an agent.

    Attributes
    ----------
    readings, batches, alarms
        So far in this process; alarms are readings above their threshold.
    devices
        How many were ever heard of.
    rate
        Readings a second, lately.
    wrong
        What was not as it should be at the source, by kind.
    deliveries
        How it stands with each sink.
    waiting
        Events that a sink has not accepted yet, by sink.
    current
        What was last told of each open incident.
    told
        Events so far in this process, by kind.
    realised
        What the calibration promised, and what came of it: the mean of the devices; None before there is any.
    silent, longest
        How many devices nothing was heard of for as long as `Watch.silent` says, and those of them that have been silent longest, with
        their seconds.
    model, phase
        Digest of the model at work; ``"steady"``, or ``"shadow"`` or ``"probation"`` while a new one is on trial.
    """

    readings: int
    batches: int
    alarms: int
    devices: int
    rate: float
    wrong: Mapping[str, int]
    deliveries: Mapping[str, Delivery]
    waiting: Mapping[str, int]
    current: list[Event]
    told: Mapping[str, int]
    realised: Realised | None
    silent: int
    longest: list[tuple[str, float]]
    model: str
    phase: str


class Agent:
    """Reads a source for as long as it is wanted.

    Parameters
    ----------
    watch
        What to do.
    folder
        Where its state is kept.
    bundle
        The detector, in a folder that is looked at now and then: a newer one there is put on trial. None: it is at `Watch.bundle`, or else
        each device is watched by a model of its own readings.

    Raises
    ------
    StorageError, CheckpointError
        The folder cannot be used, or what is in it, or the bundle, is damaged.
    VedetteError
        A source or sink cannot work.
    """

    def __init__(self, watch: Watch, folder: Path, bundle: Path | None = None) -> None:
        self.watch = watch
        self._readings = self._batches = self._alarms = 0
        self._told: Counter[str] = Counter()
        self._snapshot, self._fresh, self._position = time.monotonic(), False, ""
        self._rate, self._since, self._counted = 0.0, time.monotonic(), 0
        self._looked, self._offered = -LOOK, ""
        self._feed: Feed | None = None
        self._couriers: Couriers | None = None
        self._mirror: Mirror | None = None
        self.store = Store(folder, watch.limit)
        try:
            told = {**named_sinks(watch.sinks), **watch.responses.told(self.store.database)}
            self.store.outbox.sinks = {name: each.kinds for name, each in told.items()}
            if gone := self.store.outbox.forget_others():
                log.warning("events wait for sinks that there are no more, and are forgotten", extra={"events": gone})
            found = self.store.recover()
            self._versions = Versions(folder / "models", watch.models.versions, watch.engine)
            if watch.bundle is not None:
                if bundle is not None:
                    raise RecipeError(f"the bundle is said twice, {bundle} and {watch.bundle.url}: say one of them")
                self._mirror = Mirror(watch.bundle, folder / "fetched")
            self._bundle = bundle if self._mirror is None else self._mirror.folder
            # Before there is a snapshot, what was read first is what the first model scored.
            begun = list(self.store.records.models())[:1] if found.names else []
            models = begun if found.memory is None else str(found.memory["sentry/digests"]).split()
            scorer = self._scorer(models[0] if models else "")
            watch.demand(scorer.features)
            usual = Rate() if self._bundle is None else Contract()
            self.sentry = Sentry(scorer, watch.calibration or usual, watch.incidents, Devices(found.names), watch.models)
            self.decoder = Decoder(scorer.features, self.sentry.devices, watch.format)
            self._recover(found, models[1:])
            self._silence = Silence(watch.silent, len(self.sentry.devices))
            self._couriers = Couriers(self.store, told)
            self._feed = watch.source.open(self.decoder, self._position)
        except BaseException:
            self.close(0.0)
            raise

    def _scorer(self, digest: str) -> Scorer | RollingScorer:
        """Return what scored when the state was stored, or what shall score from the beginning."""
        if self._bundle is None:
            rolling = self.watch.rolling.open(self.watch.features)
            if digest and digest != rolling.digest:
                raise CheckpointError(f"{self.store.folder} was begun with a bundle or other sensors; choose another folder with --out")
            features = [[feature.name, feature.kind, feature.unit] for feature in rolling.features]
            self.store.records.keep_model(rolling.digest, {"rolling": self.watch.rolling.model_dump(mode="json"), "features": features})
            return rolling
        if digest and digest not in self._versions.digests:
            raise CheckpointError(f"{self.store.folder} was begun without a bundle, or its models are gone; choose another --out")
        return self._model(self._versions.place(digest) if digest else self._versions.keep(self._bundle))

    def _model(self, folder: Path) -> Scorer:
        scorer, engine = Scorer.of(folder, self.watch.engine), self.watch.engine
        known = self.store.records.models().get(scorer.digest, {"engine": engine}).get("engine", "onnx")
        if known != engine:
            # The last digits differ: what was told could not be scored again.
            raise CheckpointError(f'{self.store.folder} was begun with engine = "{known}"; say so, or choose another folder with --out')
        self.store.records.keep_model(scorer.digest, {"bundle": str(folder.resolve()), "engine": engine})
        return scorer

    def _recover(self, found: Recovered, others: Sequence[str]) -> None:
        """Come to the state that was stored last, and to where the source goes on."""
        if found.memory is not None:
            other = self._model(self._versions.place(others[0])) if others else None
            self.sentry.restore(part_of(found.memory, "sentry"), other)
            self.decoder.restore(part_of(found.memory, "decoder"))
        acknowledged, count = self.store.records.applied(), 0
        for batch in found.batches:
            if batch.notes:
                self._offer(self._versions.place(batch.notes))
            readings = unpacked(batch.readings)
            self.sentry.take(readings, acknowledged.get(batch.place, ()))
            self.decoder.recall(readings)
            count += len(readings)
        self._heed()
        self._position = found.position
        if found.names:
            place = {"position": found.position} if found.position else {}
            log.info("goes on where it was", extra={"devices": len(found.names), "readings_again": count, **place})

    def _offer(self, folder: Path) -> bool:
        """Put a new model on trial; returns whether it can be."""
        assert self.sentry.care is not None
        try:
            self.sentry.care.offer(self._model(folder))
        except (CheckpointError, DetectorMisused) as error:
            log.warning("a new bundle is left alone", extra={"reason": str(error)})
            return False
        return True

    def _look(self) -> None:
        """See whether there is a new bundle; what comes of it is stored with the next batch."""
        if self._bundle is None or not self._versions.arrived(self._bundle):
            return
        try:
            folder = self._versions.keep(self._bundle)
        except (CheckpointError, DetectorMisused, StorageError) as error:
            log.warning("a new bundle is left alone", extra={"reason": str(error)})
            return
        if self._offer(folder):
            self._offered = folder.name
            log.info("a new model is scored in the shadow of the old one", extra={"model": folder.name[:12]})
        self._versions.back(self.sentry.scorer.digest)

    def _heed(self) -> None:
        """Tell what was decided about models."""
        care = self.sentry.care
        while care is not None and care.verdicts:
            said = care.verdicts.pop(0)
            self._versions.back(self.sentry.scorer.digest)
            level = logging.INFO if said.kind in ("swapped", "kept") else logging.WARNING
            log.log(level, f"model {said.kind}", extra={"model": said.digest[:12], "reason": said.why})

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set or the source has ended.

        Raises
        ------
        StorageError
            The disk is full, or the folder is gone: nothing that was stored is lost.
        """
        assert self._feed is not None
        while not stop.is_set():
            if time.monotonic() - self._looked >= LOOK:
                self._look()
                self._looked = time.monotonic()
            drained = self._feed.drain(WAIT)
            if drained is not None:
                self._take(drained.readings, drained.position)
                self._feed.settle()
            elif self._feed.ended:
                break
            # A model that was just offered is stored with the next batch, and offered again from there.
            if self._fresh and not self._offered and (self.store.due or time.monotonic() - self._snapshot >= SNAPSHOT):
                self.snapshot()

    def _take(self, readings: Readings, position: str) -> None:
        self._silence.hear(readings.devices, len(self.sentry.devices))
        said = self.store.records.acknowledgements()
        outcome = self.sentry.take(readings, said)
        judged = outcome.judged
        self.store.append(
            packed(readings),
            position,
            judged.events,
            samples=outcome.samples,
            names=self.sentry.devices.names,
            notes=self._offered,
            applied=[one.place for one in said],
        )
        self._offered = ""
        self._heed()
        self._fresh, self._position = True, position
        self._readings += len(readings)
        self._batches += 1
        self._alarms += int(np.count_nonzero(judged.scores > judged.thresholds))
        self._told.update(event.kind for event in judged.events)

    def snapshot(self) -> None:
        """Store the whole state, so that less is read again after a kill."""
        self.store.snapshot(parts_as({"sentry": self.sentry.memory(), "decoder": self.decoder.memory()}))
        self._snapshot, self._fresh = time.monotonic(), False

    @property
    def status(self) -> Status:
        """How it stands; may be asked by any thread."""
        now = time.monotonic()
        silent, longest = self._silence.found(self.sentry.devices.names)
        if now - self._since >= 1.0:
            self._rate = (self._readings - self._counted) / (now - self._since)
            self._since, self._counted = now, self._readings
        return Status(
            self._readings,
            self._batches,
            self._alarms,
            len(self.sentry.devices),
            self._rate,
            dict(self.decoder.counts),
            {} if self._couriers is None else self._couriers.deliveries,
            self.store.outbox.counts(),
            self.sentry.current,
            dict(self._told),
            self.sentry.calibrated.overall(len(self.sentry.devices)),
            silent,
            longest,
            self.sentry.scorer.digest,
            "steady" if self.sentry.care is None else self.sentry.care.phase,
        )

    def close(self, seconds: float = 5.0) -> None:
        """Store where it stands, tell what can be told in so many seconds, and let go of everything."""
        if self._feed is not None:
            self._feed.close()
            if self._fresh and not self._offered:
                self.snapshot()
        if self._mirror is not None:
            self._mirror.close()
        if self._couriers is not None:
            self._couriers.drained(seconds)
            self._couriers.close()
        self.store.close()


def named_sinks(sinks: tuple[AnySink, ...]) -> dict[str, Told]:
    """Return sinks by name: what they are, and a number where there are several of a kind."""
    named: dict[str, Told] = {}
    for sink in sinks:
        kind = str(describe(SINKS, sink)["name"])
        count = sum(name.partition("-")[0] == kind for name in named)
        named[f"{kind}-{count + 1}" if count else kind] = sink
    return named
