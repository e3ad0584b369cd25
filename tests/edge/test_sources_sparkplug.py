"""Sparkplug B: what births, data, deaths, aliases and sequence numbers come to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from fed import decoder

from vedette.data.table import Feature
from vedette.edge.decoding import Decoder
from vedette.edge.sources.sparkplug import Sparkplug, payloads

NOW = 1_750_000_000.0
FEATURES = (Feature("Flow/in"), Feature("Level"), Feature("Mode", "category"))


def payload(seq: int | None, *metrics: dict[str, Any], time: float = NOW) -> bytes:
    classes = payloads()
    moment = int(time * 1000)
    made = classes["Payload"](timestamp=moment, metrics=[classes["Metric"](**{"timestamp": moment, **metric}) for metric in metrics])
    if seq is not None:
        made.seq = seq
    data: bytes = made.SerializeToString()
    return data


BIRTH = (
    {"name": "Flow/in", "alias": 1, "datatype": 10, "double_value": 1.5},
    {"name": "Level", "alias": 2, "datatype": 3, "int_value": 2**32 - 7},
    {"name": "Mode", "alias": 3, "datatype": 12, "string_value": "auto"},
    {"name": "Other", "alias": 4, "datatype": 10, "double_value": 9.0},
)


class Plant:
    def __init__(self) -> None:
        self.decoder: Decoder = decoder(FEATURES)
        self.host = Sparkplug(self.decoder)

    def send(self, kind: str, data: bytes, device: str = "/pump", at: float = NOW) -> list[str]:
        return [topic for topic, _ in self.host.message(f"spBv1.0/plant/{kind}/edge{device}", data, at)]

    def rows(self) -> list[list[float]]:
        readings = self.decoder.drained()
        return [] if readings is None else readings.numbers.tolist()


@pytest.fixture
def plant() -> Plant:
    plant = Plant()
    assert plant.send("NBIRTH", payload(0, {"name": "bdSeq", "datatype": 8, "long_value": 4}), device="") == []
    assert plant.send("DBIRTH", payload(1, *BIRTH)) == []
    return plant


def test_births_and_changes_are_readings_of_all_that_is_known(plant: Plant) -> None:
    plant.send("DDATA", payload(2, {"alias": 2, "int_value": 5}, {"alias": 4, "double_value": 1.0}, time=NOW + 1))
    plant.send("DDATA", payload(3, {"alias": 1, "is_null": True}, {"alias": 3, "string_value": "hand"}, time=NOW + 2))
    plant.send("DDATA", payload(4, {"alias": 4, "double_value": 2.0}, time=NOW + 3))  # nothing that the detector looks at
    plant.send("DDATA", payload(5, {"alias": 2, "int_value": 1, "is_historical": True}, time=NOW + 4))
    readings = plant.decoder.drained()
    assert readings is not None
    np.testing.assert_equal(readings.numbers, [[1.5, -7], [1.5, 5], [math.nan, 5]])
    assert readings.times.tolist() == [NOW, NOW + 1, NOW + 2]
    assert readings.categories[0].texts() == ["auto", "auto", "hand"]
    assert plant.decoder.devices.names == ["plant/edge/pump"]
    assert plant.decoder.counts == {"missing-field": 1, "historical": 1}


def test_sequence_numbers_run_round_and_a_gap_asks_for_births_once(plant: Plant) -> None:
    for i in range(2, 300):
        assert plant.send("DDATA", payload(i % 256, {"alias": 2, "int_value": i}, time=NOW + i), at=NOW + i) == []
    assert not plant.decoder.counts
    asked = [plant.send("DDATA", payload(n, {"alias": 2, "int_value": 0}, time=NOW + 300 + n), at=NOW + 300 + n) for n in (47, 48, 50)]
    assert asked == [["spBv1.0/plant/NCMD/edge"], [], []]
    assert plant.decoder.counts == {"gap": 4}
    assert len(plant.rows()) == 302


def test_data_before_a_birth_and_after_a_death_ask_for_births() -> None:
    plant = Plant()
    (asked,) = plant.host.message("spBv1.0/plant/DDATA/edge/pump", payload(7, {"alias": 2, "int_value": 1}), NOW)
    assert asked[0] == "spBv1.0/plant/NCMD/edge"
    command = payloads()["Payload"].FromString(asked[1]).metrics[0]
    assert (command.name, command.datatype, command.boolean_value) == ("Node Control/Rebirth", 11, True)
    plant.send("NBIRTH", payload(0, {"name": "bdSeq", "long_value": 4}), device="")
    plant.send("DBIRTH", payload(1, *BIRTH))
    plant.send("NDEATH", payload(None, {"name": "bdSeq", "long_value": 3}), device="")  # of an earlier session
    assert plant.send("DDATA", payload(2, {"alias": 2, "int_value": 1}, time=NOW + 1)) == []
    plant.send("DDEATH", payload(3))
    assert plant.send("DDATA", payload(4, {"alias": 2, "int_value": 1}, time=NOW + 2)) == ["spBv1.0/plant/NCMD/edge"]
    plant.send("NDEATH", payload(None, {"name": "bdSeq", "long_value": 4}), device="")
    plant.send("DDATA", payload(5, {"alias": 2, "int_value": 1}, time=NOW + 3))
    assert len(plant.rows()) == 2
    assert plant.decoder.counts == {"before-birth": 3}


@pytest.mark.parametrize(
    ("kind", "bits", "value", "held"),
    [
        (1, "int_value", 255, -1),
        (2, "int_value", 2**32 - 2, -2),
        (4, "long_value", 2**64 - 3, -3),
        (5, "int_value", 255, 255),
        (8, "long_value", 2**63, 2.0**63),
        (9, "float_value", 0.5, 0.5),
        (11, "boolean_value", True, 1),
        (12, "string_value", "5", math.nan),
    ],
)
def test_every_type_comes_out_as_the_number_that_was_meant(kind: int, bits: str, value: object, held: float) -> None:
    plant = Plant()
    plant.send("NBIRTH", payload(0, *BIRTH[:1], {"name": "Level", "datatype": kind, bits: value}), device="")
    np.testing.assert_equal(plant.rows(), [[1.5, held]])


def test_what_is_no_sparkplug_is_counted() -> None:
    plant = Plant()
    topics = ["", "spBv1.0", "spBv1.0/plant/DDATA", "spBv1.0/plant/WHAT/edge", "other/plant/NBIRTH/edge", "spBv1.0/a/NBIRTH/b/c/d"]
    for topic in topics:
        assert list(plant.host.message(topic, b"", NOW)) == []
    assert plant.decoder.counts == {"unexpected-topic": len(topics)}
    assert list(plant.host.message("spBv1.0/STATE/scada", b"{}", NOW)) == []
    assert list(plant.host.message("spBv1.0/plant/NCMD/edge", b"", NOW)) == []
    plant.send("NBIRTH", b"\xff\xff\xff")
    assert plant.decoder.counts == {"unexpected-topic": len(topics), "garbage": 1}
