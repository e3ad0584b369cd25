"""Records: what was told, what somebody said of it, and the models there were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from vedette.edge.database import Database
from vedette.edge.events import Event
from vedette.errors import UnknownName

__all__ = ["Acknowledgement", "Kept", "Records"]


class Kept(NamedTuple):
    """An event, and the values that were scored, b"" where they were not kept."""

    event: Event
    sample: bytes


class Acknowledgement(NamedTuple):
    """What somebody said of an event: whether it was a true one."""

    place: int
    event: Event
    true: bool


class Records:
    """Looks into a sentry's file; also from other processes, while it is at work.

    Parameters
    ----------
    database
        The file.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._version, self._heard = -1, 0

    def event(self, key: str) -> Kept:
        """Return an event with what was scored.

        Parameters
        ----------
        key
            Its id, or the beginning of it.

        Raises
        ------
        UnknownName
            There is none, or several.
        """
        with self.database.reading() as db:
            ends = (key, key + "g")
            found = db.execute("select id, said, sample from events where id >= ? and id < ? order by id limit 2", ends).fetchall()
        if not found or (len(found) > 1 and found[0][0] != key):
            raise UnknownName(
                f"{'several events begin' if found else 'no event here begins'} with '{key}'; 'vedette watch' shows their ids"
            )
        return Kept(Event.model_validate_json(found[0][1]), found[0][2])

    def events(self, incident: str) -> list[Event]:
        """Return what is left of all that was told of an incident, in order."""
        with self.database.reading() as db:
            found = db.execute("select said from events where incident = ? order by place", (incident,)).fetchall()
        return [Event.model_validate_json(said) for (said,) in found]

    def samples(self, event: Event) -> list[bytes]:
        """Return the values that are kept with events of the same incident, told with the same reading."""
        with self.database.reading() as db:
            found = db.execute("select said, sample from events where incident = ? order by place", (event.incident,)).fetchall()
        return [sample for said, sample in found if Event.model_validate_json(said).input == event.input]

    def incidents(self, open_only: bool = False, most: int = 1_000) -> list[Event]:
        """Return the newest incidents, the last to open first: what was told of each last."""
        with self.database.reading() as db:
            where = "where open" if open_only else ""
            found = db.execute(f"select said from incidents {where} order by place desc limit ?", (most,)).fetchall()
        return [Event.model_validate_json(said) for (said,) in found]

    def acknowledge(self, key: str, true: bool) -> Event:
        """Note whether an event was a true one; returns it. `key` and errors: see `event`."""
        event = self.event(key).event
        with self.database.writing() as db:
            row = (event.id, event.model_dump_json(), true)
            db.execute("insert into acknowledgements (event, said, verdict) values (?, ?, ?)", row)
            self._version = -1
        return event

    def acknowledgements(self) -> list[Acknowledgement]:
        """Return what was acknowledged, by this process or others, and not applied yet (`Store.append`); each is returned once."""
        with self.database.reading() as db:
            # It changes where another process has written, and costs a microsecond; the table is looked at only then.
            version = db.execute("pragma data_version").fetchone()[0]
            if version == self._version:
                return []
            unheard = "select place, said, verdict from acknowledgements where applied is null and place > ? order by place"
            found = db.execute(unheard, (self._heard,)).fetchall()
            self._version, self._heard = version, found[-1][0] if found else self._heard
        return [Acknowledgement(place, Event.model_validate_json(said), bool(verdict)) for place, said, verdict in found]

    def applied(self) -> dict[int, list[Acknowledgement]]:
        """Return what was acknowledged and applied, by the batch that was the first to heed it."""
        found: dict[int, list[Acknowledgement]] = {}
        with self.database.reading() as db:
            for batch, *row in db.execute(
                "select applied, place, said, verdict from acknowledgements where applied is not null order by place"
            ):
                found.setdefault(batch, []).append(Acknowledgement(row[0], Event.model_validate_json(row[1]), bool(row[2])))
        return found

    def keep_model(self, digest: str, about: Mapping[str, Any]) -> None:
        """Note what there is to know of a model."""
        with self.database.writing() as db:
            row = (digest, json.dumps(about))
            db.execute("insert into models values (?, ?) on conflict do update set about = excluded.about", row)

    def models(self) -> dict[str, dict[str, Any]]:
        """Return the models by digest, the oldest first, with what there is to know of each."""
        with self.database.reading() as db:
            found = db.execute("select digest, about from models order by rowid").fetchall()
        return {digest: json.loads(about) for digest, about in found}
