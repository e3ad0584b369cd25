"""Nodes that begin anew and do the same work are trained together: to the bit as if one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.data.table import Table
from vedette.data.windows import Window
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.lstm import LstmAutoencoder
from vedette.detectors.mlp import Mlp
from vedette.errors import DetectorMisused, TrainingDiverged
from vedette.message import Channel, Message, Vector
from vedette.runtimes.base import Outcome, plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.topology import Ring
from vedette.strategies import STRATEGIES, FedAvg, FedProx
from vedette.strategies.base import Turn
from vedette.strategies.view import Answers
from vedette.training.cohort.trainer import CohortTrainer
from vedette.training.lowmem.trainer import LowmemTrainer
from vedette.training.task import Answered, Done, Optimiser

STEPS = Optimiser(rate=0.01, batch=16)
DENSE = Autoencoder(hidden=(4, 2), optimiser=STEPS)
ROWS = 64, 64, 64, 65, 20, 33, 90, 64, 40
FLEET = Fleet.of({f"n{place:02}": correlated(rows, 5, place, anomalies=0.2) for place, rows in enumerate(ROWS)})
NORMAL = FLEET.map(lambda table: table.normal())


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many nodes answered at once, each time."""
    found: list[int] = []
    real = Answers.add_all

    def noted(self: Answers, answered: Answered) -> None:
        found.append(len(answered.nodes))
        real(self, answered)

    monkeypatch.setattr(Answers, "add_all", noted)
    return found


def both(monkeypatch: pytest.MonkeyPatch, fleet: Fleet, detector: Any, strategy: Any, **more: Any) -> tuple[Outcome, Outcome]:
    plan = plan_of(detector, strategy, 7, **more)
    together = LocalRuntime(fleet).run(plan)
    with monkeypatch.context() as patched:
        patched.setattr(CohortTrainer, "run_alike", lambda *_: None)
        return together, LocalRuntime(fleet).run(plan)


CASES: dict[str, tuple[Any, Any, int]] = {
    "autoencoder": (DENSE, FedAvg(rounds=3), 9),
    "several passes": (DENSE, FedAvg(rounds=2, epochs=2.5, batch=7), 9),
    "no passes": (DENSE, FedAvg(rounds=2, epochs=0.001), 9),
    "a sample": (DENSE, FedAvg(rounds=4, sample=0.5), 4),
    "pulled": (DENSE, FedProx(rounds=2, mu=0.1), 9),
    "median": (DENSE, FedAvg(rounds=2, aggregator="median"), 9),
    "in chunks": (DENSE, FedAvg(rounds=2, momentum=0.5), 9),
    "plain descent": (DENSE.model_copy(update={"optimiser": Optimiser(name="sgd", rate=0.05)}), FedAvg(rounds=2), 9),
    "windows": (Autoencoder(hidden=(4,), window=Window(size=3), optimiser=STEPS), FedAvg(rounds=2), 9),
    "supervised": (Mlp(hidden=(5,), optimiser=STEPS), FedAvg(rounds=2), 9),
    "one by one": (LstmAutoencoder(window=Window(size=3), hidden=(3, 2), optimiser=STEPS), FedAvg(rounds=1), 1),
    "re-balanced": (Mlp(hidden=(5,), rebalance={"name": "over-sampling"}, optimiser=STEPS), FedAvg(rounds=1), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_together_is_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch, groups: list[int]) -> None:
    detector, strategy, most = CASES[name]
    trainer = CohortTrainer(chunk=2, threads=2) if name == "in chunks" else CohortTrainer()
    together, alone = both(monkeypatch, FLEET if isinstance(detector, Mlp) else NORMAL, detector, strategy, trainer=trainer)
    assert max(groups) == most
    assert together.history == alone.history
    for node, memory in together.memories.items():
        assert memory.keys() == alone.memories[node].keys()
        for key, value in memory.items():
            np.testing.assert_array_equal(value, alone.memories[node][key], err_msg=f"{node} {key}")


@pytest.mark.parametrize(
    ("more", "detector"),
    [({"topology": Ring()}, DENSE), ({"trainer": LowmemTrainer()}, DENSE), ({"trainer": LowmemTrainer(prune=0.01)}, DENSE)],
)
def test_not_among_peers_nor_where_trainers_keep_something(more: Any, detector: Any, groups: list[int]) -> None:
    strategy = STRATEGIES["gossip-fedavg"](rounds=1) if "topology" in more else FedAvg(rounds=1)
    LocalRuntime(NORMAL).run(plan_of(detector, strategy, 7, **more))
    assert not groups


def test_nodes_of_other_widths_are_told_apart(monkeypatch: pytest.MonkeyPatch, groups: list[int]) -> None:
    """With scaling of its own each node has its own levels, and so another network: the message is the one it was."""
    fleet = Fleet.of({"a": NORMAL["n00"], "b": Table(NORMAL["n00"].features[:4], NORMAL["n00"].numbers[:, :4])})
    detector = DENSE.model_copy(update={"scaling": Scaling(fit="local")})
    with pytest.raises(DetectorMisused, match="node 'b' sends parameters of another layout"):
        LocalRuntime(fleet).run(plan_of(detector, FedAvg(rounds=1), 7))
    assert groups == [1, 1]


def test_who_diverges_is_named() -> None:
    wild = DENSE.model_copy(update={"optimiser": Optimiser(name="sgd", rate=1e12, batch=8)})
    with pytest.raises(TrainingDiverged, match=r"node 'n\d\d', round 1: the loss is no longer a number"):
        LocalRuntime(NORMAL).run(plan_of(wild, FedAvg(rounds=1), 7))


@pytest.mark.parametrize("name", [name for name in STRATEGIES if STRATEGIES[name].alike])
def test_strategies_that_say_so_ask_the_same_of_all(name: str) -> None:
    strategy = STRATEGIES[name](rounds=2)
    given = Message(vectors={channel.name: Vector(np.zeros(3, np.float32), "layout") for channel in strategy.channels})
    one, other = (
        strategy.work(Turn(1, "train", ("a", "b"), {}, np.random.default_rng, node), given, memory)
        for node, memory in (("a", {}), ("b", {"network.model": np.ones(3, np.float32), "layout.model": "layout", "x": 1.0}))
    )
    assert one == other
    done = Done(given.vectors, Message(facts={"rows": 3.0, "loss": 0.1}))
    message, kept = strategy.answer(Turn(1, "train", ("a", "b"), {}, np.random.default_rng, "a"), done, {"x": 1.0})
    assert (message, kept) == (Message(vectors=done.vectors, facts=done.answers.facts), {"x": 1.0})


@pytest.mark.parametrize("spoilt", ["nothing", "weight"])
@pytest.mark.parametrize("combine", ["mean", "gather"])
@pytest.mark.parametrize("grouped", [False, True])
def test_answers_taken_in_at_once_are_those_one_by_one(spoilt: str, combine: Any, grouped: bool) -> None:
    rng, nodes = np.random.default_rng(0), [f"n{place}" for place in range(5)]
    vectors = {"model": Vector(rng.normal(size=(5, 40)).astype(np.float32), "layout")}
    facts = {"rows": np.arange(1.0, 6), "loss": rng.random(5)}
    if spoilt == "weight":
        facts["rows"][3] = -1
    answered = Answered(nodes, vectors, facts)
    groups = {node: "odd" if place % 2 else "even" for place, node in enumerate(nodes)} if grouped else {}
    channels = [Channel("model", combine=combine)]
    at_once, each = Answers(channels, groups), Answers(channels, groups)
    for node, message in answered.each():
        each.add(node, message)
    at_once.add_all(answered)
    # The trainer trains on where its weights lay.
    vectors["model"].values[:] = 0
    for one, other in ((at_once, each), *((at_once.groups[name], each.groups[name]) for name in at_once.groups)):
        assert (one.nodes, one.refused, dict(one.facts("loss"))) == (other.nodes, other.refused, dict(other.facts("loss")))  # type: ignore[attr-defined]
        if combine == "mean":
            assert np.array_equal(one.mean("model").values, other.mean("model").values)
        else:
            assert np.array_equal(one.each("model")[1], other.each("model")[1])
