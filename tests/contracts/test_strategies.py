"""Every registered strategy, and three probes, through the same checks."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from functools import cache

import numpy as np
import probes  # noqa: F401 - registers the probe strategies
import pytest

from conftest import correlated, three_nodes
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.data.windows import Window
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.base import DETECTORS as REGISTERED
from vedette.detectors.dual_network import DualNetwork
from vedette.detectors.lstm import LstmAutoencoder
from vedette.detectors.mlp import Mlp
from vedette.detectors.network import NetworkDetector
from vedette.errors import RecipeError
from vedette.message import Memory
from vedette.runtimes.base import Outcome, digest, plan_of
from vedette.runtimes.checkpoint import load_state, save_state
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.topology import Full, Ring, Server
from vedette.settings import build, describe
from vedette.strategies.base import STRATEGIES, Strategy
from vedette.training.task import Job, Optimiser, Task, Work
from vedette.training.trainer import LoopTrainer

STAGES = {"prepare", "calibrate", "merge", "private-prepare", "private-calibrate"}
"""Strategies without rounds: those of the stages run in every test here, merging in those of detectors that learn in one step."""
NAMES = sorted(set(STRATEGIES) - STAGES)
CENTRAL = {"clustered"}
"""Those that peers cannot carry out: they are refused before anything is trained."""
SETTINGS = {
    "clustered": {"strategy": {"name": "fedavg", "momentum": 0.5}, "by": {"name": "rows", "clusters": 2}, "every": 1},
    "fedavg": {"momentum": 0.5},
    "fedkd": {"epochs": 1},
    "fedprox": {"mu": 0.1, "aggregator": {"name": "trimmed-mean", "share": 0.34}},
    "fedtl": {"epochs": 1},
    "gossip-fedavg": {"epochs": 1, "reputation": True},
    "mtad-fl": {"epochs": 1, "nearest": 2},
    "p2pk-smote": {"epochs": 1, "neighbours": 3, "share": 0.5},
}
QUICK = {"scaling": Scaling(numbers="standard"), "optimiser": Optimiser(rate=0.01, batch=32)}
DETECTORS = {
    "autoencoder": Autoencoder(hidden=(4, 2), residual="variance", **QUICK),
    "lstm-autoencoder": LstmAutoencoder(window=Window(size=3), hidden=(6,), dense=(5,), residual="mahalanobis", **QUICK),
    "mlp": Mlp(hidden=(6,), batch_norm=True, dropout=0.2, **QUICK),
    "se-ea-edn": DualNetwork(channels=(6, 8, 6), reduction=4, slots=4, **QUICK),
}
SLOW = {"lstm-autoencoder", "se-ea-edn"}
"""Networks that take long over a row: they get a third of the rows."""
OFTEN = {("fedavg", "lstm-autoencoder"), *((name, "se-ea-edn") for name in ("fedkd", "fedtl", "mtad-fl"))}
"""Strategies that are tried with those each time; the other pairs by `make test-all`."""
PAIRS = [
    pytest.param(name, detector, marks=[pytest.mark.slow] if detector in SLOW and (name, detector) not in OFTEN else [])
    for name in NAMES
    for detector in sorted(DETECTORS)
    if all(not channel.role or channel.role in DETECTORS[detector].roles for channel in STRATEGIES[name]().channels)
    and (DETECTORS[detector].learning == "supervised" or not STRATEGIES[name]().labelled)
]


def strategy(name: str, **settings) -> Strategy:
    return STRATEGIES[name](**{"rounds": 3, **SETTINGS.get(name, {}), **settings})


def ran(name: str, detector: str, fleet: Fleet, seed: int = 7, **settings) -> Outcome:
    return LocalRuntime(rows_for(detector, fleet)).run(plan_of(DETECTORS[detector], strategy(name, **settings), seed))


def rows_for(detector: str, fleet: Fleet) -> Fleet:
    if detector in SLOW:
        fleet = fleet.map(lambda table: table.take(slice(0, len(table) // 3)))
    return fleet if DETECTORS[detector].learning == "supervised" else fleet.map(lambda table: table.normal())


@cache
def first_run(name: str, detector: str) -> Outcome:
    """Return what several tests hold others against, once made."""
    return ran(name, detector, three_nodes())


def same(one: Memory, other: Memory) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_every_registered_strategy_is_tried():
    assert {*NAMES, *STAGES} == set(STRATEGIES)
    assert set(DETECTORS) == {name for name in REGISTERED if issubclass(REGISTERED[name], NetworkDetector)}


@pytest.mark.parametrize("name", sorted(STAGES))
def test_stages_survive_json(name):
    part = STRATEGIES[name]()
    assert build(STRATEGIES, json.loads(json.dumps(describe(STRATEGIES, part))), "test") == part


@pytest.mark.parametrize(("name", "detector"), PAIRS)
class TestEveryStrategy:
    def test_trains_calibrated_detectors(self, name, detector, fleet):
        outcome = first_run(name, detector)
        assert set(outcome.memories) == set(fleet)
        losses = [entry.loss for entry in outcome.history if entry.stage == "rounds"]
        assert len(losses) == 3
        assert losses[-1] < losses[0]
        for node, memory in outcome.memories.items():
            fitted = DETECTORS[detector].restored(memory)
            assert 0 < fitted.threshold_ < np.inf
            assert np.isfinite(fitted.decision_function(fleet[node])).all()

    def test_is_deterministic_and_blind_to_the_order_of_nodes(self, name, detector, fleet):
        first = first_run(name, detector)
        turned = ran(name, detector, Fleet(tuple(reversed(fleet.nodes)), fleet.__getitem__))
        assert all(same(first.memories[node], turned.memories[node]) for node in fleet)
        assert first.history == turned.history
        other = ran(name, detector, fleet, seed=8)
        assert not same(first.memories["node-0"], other.memories["node-0"])

    def test_goes_on_from_any_checkpoint_as_if_nothing_had_happened(self, name, detector, fleet, tmp_path):
        fleet = rows_for(detector, fleet)
        plan = plan_of(DETECTORS[detector], strategy(name), 7)
        copies = []

        def keep(entry, memories):
            copies.append(shutil.copy(tmp_path / "whole", tmp_path / f"after-{len(copies)}"))

        whole = LocalRuntime(fleet, checkpoint=tmp_path / "whole").run(plan, keep)
        assert len(copies) == len(whole.history)
        # Slow networks are tried from some of them: what is stored does not depend on the network.
        for file in copies if detector in ("autoencoder", "mlp") else copies[1::3]:
            resumed = LocalRuntime(fleet, checkpoint=file, resume=True).run(plan)
            assert resumed.history == whole.history
            assert all(same(resumed.memories[node], whole.memories[node]) for node in fleet)

    def test_peers_who_all_hear_each_other_learn_what_a_coordinator_would_teach(self, name, detector, fleet):
        """Who carries the exchange out does not matter: the final weights are the same to the bit."""
        if name in CENTRAL:
            with pytest.raises(RecipeError, match="take topology = 'server'"):
                LocalRuntime(rows_for(detector, fleet)).run(plan_of(DETECTORS[detector], strategy(name), 7, Full()), no_training)
            return
        rows = rows_for(detector, fleet)
        server = first_run(name, detector)
        peers = LocalRuntime(rows).run(plan_of(DETECTORS[detector], strategy(name), 7, Full()))
        assert all(same(server.memories[node], peers.memories[node]) for node in fleet)
        assert [entry.loss for entry in server.history] == [entry.loss for entry in peers.history]

    def test_goes_on_among_peers_from_a_checkpoint(self, name, detector, fleet, tmp_path):
        if name in CENTRAL:
            pytest.skip("peers cannot carry it out")
        rows = rows_for(detector, fleet)
        plan = plan_of(DETECTORS[detector], strategy(name), 7, Ring())
        whole = LocalRuntime(rows).run(plan)
        with contextlib.suppress(StopIteration):
            LocalRuntime(rows, checkpoint=tmp_path / "state").run(plan, stop_after_training)
        resumed = LocalRuntime(rows, checkpoint=tmp_path / "state", resume=True).run(plan)
        assert resumed.history == whole.history
        assert all(same(resumed.memories[node], whole.memories[node]) for node in fleet)

    def test_its_functions_are_pure(self, name, detector, fleet):
        """Called twice with the same arguments they say the same, and they change none of them."""
        calls: list[tuple[str, object, object]] = []
        chosen = strategy(name)

        class Watched(type(chosen)):  # type: ignore[misc]
            def work(self, turn, inbox, mine):
                return twice(super().work, turn, inbox, mine)

            def answer(self, turn, done, mine):
                return twice(super().answer, turn, done, mine)

            def exchange(self, turn, view, ours):
                before = copy.deepcopy((turn, ours))
                first = super().exchange(turn, view, ours)
                second = super().exchange(copy.deepcopy(before[0]), view, ours)
                calls.append(("exchange", flat(first), flat(second)))
                assert flat(before[1]) == flat(ours), "exchange changed its memory"
                return first

        def twice(function, *arguments):
            before = copy.deepcopy(arguments)
            first, second = function(*arguments), function(*arguments)
            calls.append((function.__name__, flat(first), flat(second)))
            assert flat(before) == flat(arguments), f"{function.__name__} changed its arguments"
            return first

        STRATEGIES.register(f"watched-{name}")(Watched)
        try:
            LocalRuntime(rows_for(detector, fleet)).run(plan_of(DETECTORS[detector], Watched(**chosen.model_dump()), 7))
        finally:
            STRATEGIES._entries.pop(f"watched-{name}")
        assert {"work", "answer", "exchange"} <= {function for function, _, _ in calls}
        assert all(first == second for _, first, second in calls)

    def test_survives_json(self, name, detector):
        said = json.loads(json.dumps(describe(STRATEGIES, strategy(name))))
        assert build(STRATEGIES, said, "test") == strategy(name)


@pytest.mark.parametrize("name", [pair.values[0] for pair in PAIRS if pair.values[1] == "autoencoder"])
def test_another_node_changes_nothing_for_those_before_the_first_exchange(name, fleet, tmp_path):
    """Each node draws from a branch of its own, so who else takes part does not touch its rows, weights or noise."""
    rows = fleet.map(lambda table: table.normal())
    detector = DETECTORS["autoencoder"].model_copy(update={"scaling": Scaling(numbers="standard", fit="local")})
    fewer = Fleet(rows.nodes[:2], rows.__getitem__)
    # Where a coordinator sends the next network, a node's own is not kept: among peers it is.
    topology = Full() if STRATEGIES[name].begins_anew and name not in CENTRAL else Server()
    plan = plan_of(detector, strategy(name, rounds=1), 7, topology)
    seen = []
    for some in (rows, fewer):
        with contextlib.suppress(StopIteration):
            LocalRuntime(some, checkpoint=tmp_path / "state").run(plan, stop_after_training)
        seen.append(load_state(tmp_path / "state", digest(plan)).memories["node-0"])
    assert "network.model" in seen[0]
    # What a node thinks of others is there for those alone that took part.
    both = seen[0].keys() & seen[1].keys()
    assert same(*({name: each[name] for name in both} for each in seen))


def no_training(entry, ended):
    assert entry.stage == "prepare"


def stop_after_training(entry, ended):
    if entry.stage == "rounds":
        raise StopIteration


def flat(thing: object) -> object:
    """Arrays as bytes, so that nested results compare."""
    if isinstance(thing, np.ndarray):
        return thing.tobytes()
    if isinstance(thing, np.random.Generator):
        return thing.bit_generator.state
    if isinstance(thing, dict):
        return {key: flat(value) for key, value in thing.items()}
    if isinstance(thing, tuple | list):
        return [flat(part) for part in thing]
    # What a turn's functions hold they do not change; copies of them differ in their address.
    return "" if callable(thing) else repr(thing)


@pytest.mark.parametrize("detector", sorted(DETECTORS))
@pytest.mark.parametrize("name", ["fedavg", "fedprox"])
def test_one_node_federated_is_centralised(name, detector):
    """With plain gradient descent nothing is lost between rounds, so a federation of one is training alone."""
    alone = Fleet.of({"only": correlated(300, 6, seed=5, anomalies=0.2)})
    plain = DETECTORS[detector].model_copy(update={"optimiser": Optimiser(name="sgd", rate=0.05, batch=32)})
    settings = {"mu": 0.0, "aggregator": "mean"} if name == "fedprox" else {"momentum": 0.0}
    fleet = rows_for(detector, alone)
    federated = LocalRuntime(fleet).run(plan_of(plain, strategy(name, **settings), 7))
    central = LocalRuntime(fleet).run(plan_of(plain, strategy("local"), 7))
    table = alone["only"]
    ours, theirs = (plain.restored(outcome.memories["only"]) for outcome in (federated, central))
    assert np.allclose(ours.decision_function(table), theirs.decision_function(table), atol=1e-6)
    assert ours.threshold_ == pytest.approx(theirs.threshold_, abs=1e-6)


@pytest.mark.parametrize("detector", sorted(DETECTORS))
def test_a_cohort_is_a_loop_over_its_nodes(detector, fleet):
    learner = DETECTORS[detector]
    memories = {node: learner.model_copy().fit(fleet[node]).scaler.memory() for node in fleet}
    jobs = [Job(node, fleet[node], Work(tasks=(Task(epochs=2),)), memories[node]) for node in fleet]
    together = {node: memory for node, _, memory in LoopTrainer().run(learner, jobs, (), 7, 0, "train")}
    for job in jobs:
        ((_, _, alone),) = LoopTrainer().run(learner, [job], (), 7, 0, "train")
        learned = f"network.{learner.role}"
        assert np.allclose(alone[learned], together[job.node][learned], atol=1e-6)


def test_checkpoints_hold_a_state_whole(fleet, tmp_path):
    """What an exchange sent each node, its own memory and groups come back as they were."""
    from vedette.message import Message, Vector
    from vedette.runtimes.base import Round
    from vedette.runtimes.checkpoint import State

    vector = Vector(np.arange(3, dtype=np.float32), "layout")
    state = State(
        memories={"valve1/0": {"a": np.ones(2), "b": 1.5, "c": "text"}, "ünï": {}},
        inbox={"*": Message(vectors={"model": vector}), "valve1/0": Message(tables={"t/u": np.zeros((2, 2))}, facts={"f": "g", "h": 2.0})},
        ours={"*": {"velocity": np.arange(4.0)}, "valve1/0": {"counted.ünï": 0.5}},
        groups={"valve1/0": {"ünï": "g1"}},
        exchanged={"prepare": {"*": {}, "a/b": {"c/d": 1.0}}},
        stage=1,
        round=4,
        history=[Round("rounds", 1, 5, 0.5, 10, 20), Round("rounds", 2, 5, None, 10, 20)],
    )
    save_state(tmp_path / "state", state, "plan")
    back = load_state(tmp_path / "state", "plan")
    assert flat(back.memories) == flat(state.memories)
    assert flat(dict(back.inbox)) == flat(dict(state.inbox))
    assert flat(dict(back.ours)) == flat(dict(state.ours))
    assert flat(back.exchanged) == flat(state.exchanged)
    assert (back.groups, back.stage, back.round, back.history) == (state.groups, 1, 4, state.history)


def test_probes_do_what_they_are_for(fleet):
    """Nearest: nodes hold each other's encoders; tables: nodes train on more rows than they have; teacher: weights stay apart."""
    nearest = ran("probe-nearest", "autoencoder", fleet)
    weights = [nearest.memories[node]["network.model"] for node in fleet]
    assert not np.array_equal(weights[0], weights[1])
    alone = ran("local", "autoencoder", fleet, rounds=1)
    shared = ran("probe-tables", "autoencoder", fleet, rounds=1)
    assert not np.array_equal(alone.memories["node-0"]["network.model"], shared.memories["node-0"]["network.model"])
    taught = ran("probe-teacher", "autoencoder", fleet)
    assert not np.array_equal(taught.memories["node-0"]["network.model"], taught.memories["node-1"]["network.model"])
