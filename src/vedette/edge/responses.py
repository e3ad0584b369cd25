"""Responses: what is done by itself when an incident opens or closes, by rules, and only in words until it is allowed to."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from vedette.edge.actions import AnyAction, Deed
from vedette.edge.couriers import Told
from vedette.edge.database import Database
from vedette.edge.events import Event, EventKind, Severity
from vedette.edge.sinks.base import Outlet, Unaccepted
from vedette.settings import Settings

__all__ = ["Responses", "Rule"]

log = logging.getLogger(__name__)

SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")


class Rule(Settings):
    """When something is done, and what.

    Parameters
    ----------
    name
        By which it is known in the log, and in the store: under another name it is another rule.
    action
        What is done.
    on
        At which end of an incident.
    devices
        A pattern of names: ``"hall-1/*"``.
    severity
        At least.
    most, per
        No more than so many times in so many seconds; what would be more is not done at all.
    within
        Seconds after which it is too late: a command that waited through an outage is not given any more.
    """

    name: str = Field(min_length=1)
    action: AnyAction
    on: tuple[Literal["opened", "closed"], ...] = ("opened",)
    devices: str = "*"
    severity: Severity = "low"
    most: int = Field(5, ge=1)
    per: float = Field(3600.0, gt=0)
    within: float = Field(900.0, gt=0)

    def concerns(self, event: Event) -> bool:
        """Tell whether something is to be done."""
        severe = SEVERITIES.index(event.severity) >= SEVERITIES.index(self.severity)
        return severe and event.kind in self.on and fnmatchcase(event.device, self.devices)


class Responses(Settings):
    """Rules, and what they may do.

    Parameters
    ----------
    rules
        Each has a name of its own.
    dry_run
        Whether what would be done is only written into the log.
    allow
        The whole paths of programs that may be run.
    """

    rules: tuple[Rule, ...] = ()
    dry_run: bool = True
    allow: tuple[Path, ...] = ()

    @field_validator("rules")
    @classmethod
    def _names(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        if len({rule.name for rule in rules}) < len(rules):
            raise ValueError("two rules have the same name")
        return rules

    def told(self, database: Database) -> dict[str, Told]:
        """Return the rules as those that are told of events, each by a courier of its own: one that hangs holds up no other."""
        return {f"response {rule.name}": _Responder(rule, self, database) for rule in self.rules}


class _Responder:
    """A rule as somebody who is told."""

    rate = 100.0

    def __init__(self, rule: Rule, responses: Responses, database: Database) -> None:
        self.rule, self.responses, self.database = rule, responses, database
        self.kinds: tuple[EventKind, ...] = rule.on

    def open(self) -> Outlet:
        return _Opened(self.rule, self.rule.action.ready(self.responses.allow, self.rule.name), self.responses.dry_run, self.database)


class _Opened(Outlet):
    def __init__(self, rule: Rule, deed: Deed, dry_run: bool, database: Database) -> None:
        self.rule, self.deed, self.dry_run, self.database = rule, deed, dry_run, database

    def send(self, events: Sequence[Event]) -> None:
        for event in events:
            if self.rule.concerns(event):
                self._respond(event)

    def _respond(self, event: Event) -> None:
        """Respond once to an event, also over restarts: that it is begun is stored before it is done, and how it ended after."""
        with self.database.reading() as db:
            known = "select state from responses where rule = ? and event = ?"
            before = db.execute(known, (self.rule.name, event.id)).fetchone()
        if before is not None and before[0] != "begun":
            return
        if before is not None and not self.deed.repeatable:
            self._note(event, "interrupted", "it may have been done, or not; it is not done again")
        elif time.time() - event.time > self.rule.within:
            self._note(event, "late", f"it happened more than {self.rule.within:g} s ago")
        elif before is None and self._count() >= self.rule.most:
            self._note(event, "limited", f"it was done {self.rule.most} times within {self.rule.per:g} s")
        elif self.dry_run:
            self._note(event, "dry", "dry run: nothing is done")
        else:
            if before is None:
                self._store(event, "begun", "")
            try:
                self._note(event, "done", self.deed.do(event))
            except Unaccepted as error:
                if not error.lasting:
                    raise
                self._note(event, "failed", str(error))

    def _count(self) -> int:
        """Count how often it was done lately, or would have been."""
        with self.database.reading() as db:
            found = (
                "select count(*) from responses where rule = ? and time > ? and state in ('begun', 'done', 'failed', 'dry', 'interrupted')"
            )
            return int(db.execute(found, (self.rule.name, time.time() - self.rule.per)).fetchone()[0])

    def _note(self, event: Event, state: str, about: str) -> None:
        self._store(event, state, about)
        said = {"rule": self.rule.name, "state": state, "action": self.rule.action.said(event), "event": event.id, "reason": about}
        (log.info if state in ("done", "dry") else log.warning)("response", extra=said)

    def _store(self, event: Event, state: str, about: str) -> None:
        with self.database.writing() as db:
            row = (self.rule.name, event.id, time.time(), state, about)
            ends = "on conflict do update set state = excluded.state, about = excluded.about"
            db.execute(f"insert into responses (rule, event, time, state, about) values (?, ?, ?, ?, ?) {ends}", row)

    def close(self) -> None:
        self.deed.close()
