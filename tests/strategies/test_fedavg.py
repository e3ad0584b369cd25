"""FedAvg and what surrounds it, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.data.scaling import Scaling
from vedette.data.table import Coded, Feature, Table
from vedette.errors import DetectorMisused
from vedette.message import Channel, Message, Vector
from vedette.seeds import stream
from vedette.strategies.base import Turn
from vedette.strategies.calibrate import Calibrate
from vedette.strategies.fedavg import FedAvg
from vedette.strategies.fedprox import FedProx
from vedette.strategies.prepare import Prepare
from vedette.strategies.view import Answers
from vedette.training.task import Proximal


def turn(round: int = 0, phase: str = "train") -> Turn:
    return Turn(round, phase, ("a", "b"), {}, stream(0))


def answers(strategy, values: dict[str, list[float]], rows: dict[str, float]) -> Answers:
    view = Answers(strategy.channels)
    for node, numbers in values.items():
        vectors = {"model": Vector(np.array(numbers, dtype=np.float32), "x"), "norms": Vector(np.zeros(0, dtype=np.float32), "y")}
        view.add(node, Message(vectors=vectors, facts={"rows": rows[node]}))
    return view


def test_the_mean_is_weighted_by_rows():
    strategy = FedAvg()
    reply = strategy.exchange(turn(), answers(strategy, {"a": [0, 4], "b": [4, 0]}, {"a": 30, "b": 10}), {})
    assert reply.messages["*"].vectors["model"].values.tolist() == [1, 3]


def test_server_momentum_as_in_fedavgm():
    """x1 = mean1; v2 = x1 - mean2, x2 = x1 - v2; v3 = b v2 + (x2 - mean3), x3 = x2 - v3."""
    strategy = FedAvg(momentum=0.5)
    means, memory, sent = ([8.0], [4.0], [3.0]), {}, []
    for number, mean in enumerate(means):
        reply = strategy.exchange(turn(number), answers(strategy, {"a": mean, "b": mean}, {"a": 1, "b": 1}), memory)
        memory = reply.memory
        sent.append(float(reply.messages["*"].vectors["model"].values[0]))
    # v2 = 8 - 4 = 4, x2 = 4; v3 = 0.5 * 4 + (4 - 3) = 3, x3 = 1.
    assert sent == [8, 4, 1]


def test_nodes_start_from_what_they_received_and_adopt_it_at_the_end():
    received = Message(vectors={"model": Vector(np.ones(2, dtype=np.float32), "x")})
    (task,) = FedAvg(epochs=2, batch=7).work(turn(), received, {}).tasks
    assert task.start == received.vectors
    assert (task.epochs, task.batch) == (2, 7)
    (last,) = FedAvg(epochs=2).work(turn(5, "adopt"), received, {}).tasks
    assert (last.start, last.epochs) == (received.vectors, 0)
    (held,) = FedProx(mu=0.3).work(turn(), received, {}).tasks
    assert held.terms == (Proximal(0.3),)


def test_other_layouts_are_refused_by_name():
    view = Answers([Channel("model")])
    view.add("a", Message(vectors={"model": Vector(np.ones(2, dtype=np.float32), "x")}, facts={"rows": 1.0}))
    with pytest.raises(DetectorMisused, match="node 'b'"):
        view.add("b", Message(vectors={"model": Vector(np.ones(3, dtype=np.float32), "y")}, facts={"rows": 1.0}))


def test_a_mean_channel_hides_each_node():
    view = Answers([Channel("model")])
    view.add("a", Message(vectors={"model": Vector(np.ones(2, dtype=np.float32), "x")}, facts={"rows": 1.0}))
    with pytest.raises(DetectorMisused, match="averaged"):
        view.each("model")


def test_groups_have_views_of_their_own():
    view = Answers([Channel("model", weights=("rows", ""))], {"a": "g", "b": "h", "c": "g"})
    for node, value, rows in (("a", 1, 1.0), ("b", 5, 1.0), ("c", 4, 2.0)):
        view.add(node, Message(vectors={"model": Vector(np.array([value], dtype=np.float32), "x")}, facts={"rows": rows}))
    assert view.mean("model").values[0] == pytest.approx((1 + 5 + 8) / 4)
    assert view.groups["g"].mean("model").values[0] == pytest.approx(3)
    assert view.groups["h"].nodes == ["b"]
    assert view.mean("model", "").values[0] == pytest.approx(10 / 3)


def test_preparing_together_knows_every_nodes_levels_and_extremes():
    features = (Feature("x"), Feature("colour", "category"))
    tables = {
        "a": Table(features, np.array([[0.0], [1.0]]), (Coded(np.array([0, 0], dtype=np.int32), ("red",)),)),
        "b": Table(features, np.array([[5.0], [2.0]]), (Coded(np.array([1, 0], dtype=np.int32), ("blue", "green")),)),
    }
    strategy = Prepare(scaling=Scaling())
    view = Answers(strategy.channels)
    for node, table in tables.items():
        said = strategy.scaling.summary(table)
        view.add(node, Message(tables={"numbers": said.tables["numbers"]}, facts=said.facts))
    reply = strategy.exchange(turn(0, "scale"), view, {}).messages["*"]
    kept = strategy.work(turn(1, "adopt"), reply, {}).keep
    from vedette.data.scaling import Scaler

    scaler = Scaler.from_memory(kept)
    assert scaler.levels["colour"] == ("blue", "green", "red")
    assert scaler.transform(tables["b"])[:, 0].tolist() == pytest.approx([1.0, 0.4])


def test_calibrating_alone_sends_nothing():
    strategy = Calibrate(fit="local")
    from vedette.training.task import Done

    done = Done({}, Message(tables={"scores.moments": np.ones((3, 1)), "scores.sketch": np.ones((2, 1))}))
    message, memory = strategy.answer(turn(0, "scores"), done, {})
    assert message == Message()
    assert {"own.scores.sketch", "scores.sketch"} <= memory.keys()


@pytest.mark.parametrize("name", ["mean", "krum"])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_who_counted_stays_in_the_exchanges_memory(name, momentum):
    strategy = FedAvg(momentum=momentum, aggregator=name)
    values, memory = {"a": [1.0], "b": [1.0], "c": [9.0]}, {}
    for number in range(2):
        reply = strategy.exchange(turn(number), answers(strategy, values, dict.fromkeys(values, 1)), memory)
        memory = reply.memory or {}
    # Of a and b, which tie, krum takes the first, each time.
    tally = {"counted.a": 2.0, "counted.b": 0.0, "counted.c": 0.0, "turns.a": 2.0, "turns.b": 2.0, "turns.c": 2.0}
    assert {key: value for key, value in memory.items() if "." in key} == (tally if name == "krum" else {})
    assert {key for key in memory if "." not in key} == ({"model", "velocity"} if momentum else set())
    # Without anything to remember, what was remembered stays.
    assert (reply.memory is None) == (name == "mean" and not momentum)
