"""Decoding: payloads of any kind as readings, or counted as what was wrong with them (docs/live-sources.md states the rules)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vedette.data.table import Feature
from vedette.edge.counting import Counts
from vedette.edge.fields import Key, dig, seconds
from vedette.edge.format import UNITS, Format
from vedette.edge.held import Held
from vedette.edge.ordering import Order
from vedette.edge.parsing import getter, object_parser
from vedette.edge.readings import Devices, Readings
from vedette.edge.rows import LONGEST, Rows
from vedette.errors import MissingExtra, RecipeError
from vedette.message import Memory

__all__ = ["Decoder"]

_GARBAGE = object()


class Decoder:
    """Makes readings of payloads; nothing that comes is an error, what is wrong is counted.

    Parameters
    ----------
    features
        The detector's, in order.
    devices
        Where the names of devices get their places.
    format
        How payloads are laid out.

    Attributes
    ----------
    counts
        What was wrong, by kind.

    Raises
    ------
    MissingExtra
        msgspec is not installed.
    RecipeError
        The format names a feature that there is not.
    """

    def __init__(self, features: Sequence[Feature], devices: Devices, format: Format | None = None) -> None:
        try:
            import msgspec
        except ImportError:
            raise MissingExtra("reading live sources needs msgspec: pip install 'vedette[edge]'") from None
        self.features, self.devices, self.format = tuple(features), devices, format or Format()
        self.counts = Counts()
        form = self.format
        self._numbers = [feature.name for feature in self.features if feature.kind == "number"]
        self._categories = [feature.name for feature in self.features if feature.kind == "category"]
        self.names = frozenset((*self._numbers, *self._categories))
        for name in form.fields:
            if name not in self.names:
                raise RecipeError(f"format.fields: there is no feature '{name}'")
        order = form.order or tuple(feature.name for feature in self.features)
        if missing := self.names - set(order):
            raise RecipeError(f"format.order lacks the feature '{min(missing)}'")
        self._length = len(order)
        self._in_order = list(order) == self._numbers
        self._from_list = tuple(order.index(name) for name in (*self._numbers, *self._categories))
        self._paths = tuple(Key(form.fields.get(name, name)) for name in (*self._numbers, *self._categories))
        self._dotted = any(path.parts for path in self._paths)
        self._get, self._learned = getter([path.name for path in self._paths]), False
        self._device, self._time, self._sequence = Key(form.device), Key(form.time), Key(form.sequence)
        self._inner, self._value = Key(form.readings), Key(form.value)
        self._rows = Rows(len(self._numbers), len(self._categories), self.counts)
        self._json: Callable[[bytes], Any] = msgspec.json.Decoder().decode
        beside = [name for name in (form.device, form.time, form.sequence) if name]
        # Where these stand behind the values, 0: nowhere; empty where none of them does.
        places = [len(self._paths) + beside.index(name) if name else 0 for name in (form.device, form.time, form.sequence)]
        self._beside = places if beside else []
        # Whether a payload holds numbers alone: then all that stand in it are of one device and one time.
        self._plain = not beside and not self._categories
        self._quick = None if form.readings else object_parser([path.name for path in self._paths], len(self._numbers), beside)
        self._order = Order(self.counts, form.tolerance, form.ahead, form.patience)
        self._last: dict[int, int] = {}
        self._known: dict[str, int] = {}
        self._held = Held(len(self.features))
        self._sensors = {path.name: i for i, path in enumerate(self._paths)}

    @property
    def pending(self) -> int:
        """How many readings were made since they were drained."""
        return len(self._rows.places)

    def payload(self, data: bytes, device: str, at: float, again: bool = False) -> None:
        """Take a JSON payload: an object or a list of values, or a list of these.

        Parameters
        ----------
        data
            What came.
        device
            Its device, unless the payload says.
        at
            Seconds since 1970 when it arrived; NaN where a recording is read.
        again
            Whether it may have been delivered before.
        """
        if len(data) > self.format.most_bytes:
            self.counts.add("too-large", len(data))
            return
        if self._quick is not None and (data[:1] == b"{" or data[:2] == b"[{"):
            try:
                found = self._quick(data)
            except ValueError:
                pass  # a wrong type or no JSON: the long way finds out which
            else:
                if not self._dotted or not any(None in parts[: len(self._paths)] for parts in found):
                    if self._plain and (place := self._known.get(device)) is not None:
                        self._rows.extend(place, found, at)
                        return
                    for parts in found:
                        self._read(parts, device, at, again)
                    return
        value = self._parsed(data)
        if value is not _GARBAGE:
            self.parsed(value, device, at, again)

    def parsed(self, value: Any, device: str, at: float, again: bool = False) -> None:
        """Take what a JSON payload holds; see `payload`."""
        outer = value
        if self._inner and isinstance(value, dict):
            value = dig(value, self._inner)
        entries = value if isinstance(value, list) and value and isinstance(value[0], list | dict) else [value]
        for entry in entries:
            if isinstance(entry, dict):
                self._object(entry, outer if isinstance(outer, dict) else {}, device, at, again)
            elif isinstance(entry, list):
                if len(entry) != self._length:
                    self.counts.add("wrong-length", len(entry))
                    continue
                values = entry if self._in_order else [entry[i] for i in self._from_list]
                about = outer if isinstance(outer, dict) else {}
                name = dig(about, self._device) if self._device and about else device
                self._row(values, name, dig(about, self._time), dig(about, self._sequence), at, again)
            else:
                self.counts.add("garbage", entry)

    def value(self, data: bytes, device: str, sensor: str, at: float, again: bool = False) -> None:
        """Take the value of one sensor: JSON, an object that holds it, or plain text.

        The latest values of a device are held; they become a reading when each was renewed, or when one comes for the second time.
        """
        place, index = self._place(device), self._sensors.get(sensor)
        if len(data) > self.format.most_bytes:
            self.counts.add("too-large", len(data))
        elif index is None:
            self.counts.add("unknown-sensor", sensor)
        elif place is not None:
            text = index >= len(self._numbers)
            value = data.decode(errors="replace") if text and data[:1] not in b'"{' else self._parsed(data)
            said: float | None = None
            if isinstance(value, dict):
                said = self._seconds(dig(value, self._time))
                value = dig(value, self._value)
            if value is _GARBAGE:
                return
            held = self._rows.category(value) if text else self._rows.number(value)
            if isinstance(held, float) and not math.isfinite(held):
                if isinstance(value, int | float):
                    self.counts.add("not-finite", value)
                return
            if held is None:
                return
            if not again or said is not None:
                for row in self._held.put(place, index, held, said, at):
                    numbers, texts = row.values[: len(self._numbers)], row.values[len(self._numbers) :]
                    self._rows.append(place, numbers, [text or "" for text in texts], row.time, row.at)

    def add(self, values: Mapping[str, Any], device: str, at: float, time: float | None = None, ordered: bool = True) -> None:
        """Take one reading by feature.

        Parameters
        ----------
        values
            By the name, or path, of the feature; others are left alone.
        device, at
            See `payload`.
        time
            Seconds since 1970 that it says itself.
        ordered
            Whether its time tells it from others: one that is not later than the last is dropped then, else put behind it.
        """
        place = self._place(device)
        if place is not None:
            self._write(place, self._found(values), time, at, ordered)

    def row(self, values: Sequence[Any], device: str, at: float, time: float | None = None) -> None:
        """Take one reading, its values in the order of numbers first, then categories; see `add`."""
        place = self._place(device)
        if place is not None:
            self._write(place, values, time, at)

    def seconds(self, value: Any) -> float | None:
        """Return a time as seconds since 1970; None, counted, where it is none."""
        return self._seconds(value)

    def drained(self) -> Readings | None:
        """Return the readings that were made since the last time; None if there is none."""
        rows = self._rows.taken() if self._rows.places else None
        if rows is None:
            return None
        if len(rows.places) == 1:
            time = self._order.one(rows.places[0], rows.times[0], rows.stated[0], rows.arrived[0])
            if time is None:
                return None
            return Readings(np.array(rows.places, dtype=np.int32), np.array([time]), rows.numbers, rows.categories)
        devices, stated = np.array(rows.places, dtype=np.int32), np.array(rows.stated, dtype=bool)
        times, keep = self._order.settled(devices, np.array(rows.times), stated, np.array(rows.arrived))
        readings = Readings(devices, times, rows.numbers, rows.categories)
        if keep is None:
            return readings
        return readings.take(keep) if keep.any() else None

    def recall(self, readings: Readings) -> None:
        """Take note of readings that were made and stored by an earlier process, so that they are known if they come again."""
        self._order.recall(readings.devices, readings.times)

    def memory(self) -> Memory:
        """Return what it knows of devices: last times and the values held."""
        return {"last": self._order.last(len(self.devices)), "held": self._held.said()}

    def restore(self, memory: Memory) -> None:
        """Go on from a `memory`; the devices must have the places they had."""
        last = np.asarray(memory["last"])
        self._order.recall(np.arange(len(last), dtype=np.int32), last)
        self._held = Held.of(str(memory["held"]), len(self.features))

    def _parsed(self, data: bytes) -> Any:
        try:
            return self._json(data)
        except (ValueError, RecursionError):
            pass
        try:
            return json.loads(data)  # takes NaN, which is no JSON but what many devices write, and numbers that no float holds
        except (ValueError, RecursionError):
            self.counts.add("garbage", data[:80])
            return _GARBAGE

    def _object(self, entry: dict[str, Any], outer: dict[str, Any], device: str, at: float, again: bool) -> None:
        def said(path: Key) -> Any:
            value = dig(entry, path)
            return dig(outer, path) if value is None else value

        name = said(self._device) if self._device else device
        self._row(self._found(entry), name, said(self._time), said(self._sequence), at, again)

    def _read(self, parts: tuple[Any, ...], device: str, at: float, again: bool) -> None:
        if not self._beside:
            self._row(parts, device, None, None, at, again)
            return
        name, said, number = (parts[i] if i else None for i in self._beside)
        self._row(parts[: len(self._paths)], name if self._device else device, said, number, at, again)

    def _row(self, values: Sequence[Any], name: Any, said: Any, number: Any, at: float, again: bool) -> None:
        place = self._place(name)
        if place is None or (self._sequence and not self._follows(place, number, again)):
            return
        self._write(place, values, self._seconds(said), at)

    def _write(self, place: int, values: Sequence[Any], time: float | None, at: float, ordered: bool = True) -> None:
        texts = [self._rows.category(value) or "" for value in values[len(self._numbers) :]] if self._categories else ()
        self._rows.append(place, values[: len(self._numbers)] if texts else values, texts, time, at, ordered)

    def _found(self, values: Mapping[str, Any]) -> Sequence[Any]:
        """Return the values of the features, None where there is none."""
        try:
            found: Sequence[Any] = self._get(values)
        except KeyError:
            return [dig(values, path) for path in self._paths]
        if not self._learned:
            # The same strings as the payloads' own keys: most parsers keep them, and looking them up is twice as fast.
            own = {name: name for name in values}
            self._get, self._learned = getter([own[path.name] for path in self._paths]), True
        return found

    def _place(self, name: Any) -> int | None:
        if isinstance(name, str):
            place = self._known.get(name)
            if place is not None:
                return place
        if isinstance(name, bool) or not isinstance(name, str | int):
            self.counts.add("no-device" if name is None else "bad-device", name)
            return None
        text = str(name) if isinstance(name, str) or abs(name) < 10**18 else ""
        if not 0 < len(text) <= LONGEST or not text.isprintable():
            self.counts.add("bad-device", text)
            return None
        place = self.devices.place(text)
        if place is None:
            self.counts.add("too-many-devices", text)
        else:
            self._known[text] = place
        return place

    def _seconds(self, value: Any) -> float | None:
        if value is None:
            if self._time:
                self.counts.add("no-time")
            return None
        found = seconds(value, UNITS[self.format.unit])
        if found is None:
            self.counts.add("bad-time", value)
        return found

    def _follows(self, place: int, number: Any, again: bool) -> bool:
        """Whether a sequence number is no repetition; gaps are counted."""
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**63:
            self.counts.add("no-sequence", number)
            return True
        last = self._last.get(place)
        if last is not None and (number == last or (again and number < last)):
            self.counts.add("duplicate", number)
            return False
        if last is not None and number > last + 1:
            self.counts.add("gap", number, number - last - 1)
        elif last is not None and number < last:
            self.counts.add("restarted", number)
        self._last[place] = number
        return True
