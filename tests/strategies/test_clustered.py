"""Clusters: who is grouped with whom, and that each cluster learns as if it were alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.data.summaries import Covariance, Moments
from vedette.data.table import Table
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.mlp import Mlp
from vedette.detectors.network import NetworkDetector
from vedette.detectors.threshold import Quantile
from vedette.errors import RecipeError
from vedette.message import Memory, Message, Vector
from vedette.runtimes.base import Outcome, plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.mesh.policy import Policy, refusals
from vedette.seeds import stream
from vedette.settings import build, describe
from vedette.strategies.base import STRATEGIES, First, Strategy, Turn
from vedette.strategies.clustered import Clustered
from vedette.strategies.clustered_grouping import STARTED, ByRows, ByWeights, clusters_of
from vedette.strategies.fedavg import FedAvg
from vedette.strategies.mtad_fl import MtadFl
from vedette.strategies.view import Answers
from vedette.training.task import Done, Optimiser

PUMPS, VALVES = ("pump-1", "pump-2", "pump-3"), ("valve-1", "valve-2", "valve-3")
PAIRS = {"name": "given", "clusters": {"pumps": ["pump-*"], "others": ["*"]}}
DENSE = Autoencoder(hidden=(4, 2), scaling=Scaling(numbers="standard"), optimiser=Optimiser(rate=0.01, batch=32))


def turn(round: int = 0, phase: str = "train", nodes: tuple[str, ...] = (*PUMPS[:2], *VALVES[:2])) -> Turn:
    first = {"model": First(vector(0.0), [(1,)]), "norms": First(Vector(np.zeros(0, dtype=np.float32), "y"), [])}
    return Turn(round, phase, nodes, {}, lambda: stream(0), seed=7, first=lambda: first)


def vector(*values: float) -> Vector:
    return Vector(np.array(values, dtype=np.float32), "x")


def sent(*values: float, rows: float = 1.0) -> Message:
    return Message({"model": vector(*values), "norms": Vector(np.zeros(0, dtype=np.float32), "y")}, facts={"rows": rows})


def heard(strategy: Strategy, messages: Mapping[str, Message], groups: Mapping[str, str] | None = None) -> Answers:
    view = Answers(strategy.channels, groups)
    for node in sorted(messages):
        view.add(node, messages[node])
    return view


def two_kinds() -> Fleet:
    """Valves follow another plane than pumps do: their columns are turned round."""

    def turned(table: Table) -> Table:
        return Table(table.features, np.ascontiguousarray(np.roll(table.numbers, 2, axis=1)) + 1.5, label=table.label)

    tables = {name: correlated(150 + 10 * place, 6, place) for place, name in enumerate((*PUMPS, *VALVES))}
    return Fleet.of({name: turned(table) if name in VALVES else table for name, table in tables.items()})


def ran(strategy: Strategy, fleet: Fleet | None = None, detector: NetworkDetector = DENSE) -> Outcome:
    return LocalRuntime(fleet or two_kinds()).run(plan_of(detector, strategy, 7))


def told(outcome: Outcome) -> Memory:
    return outcome.exchanged["rounds"]["*"]


# Grouping.


def test_the_silhouette_is_rousseeuws() -> None:
    """0 is 1 from its own and 10.5 from the others, 1 is 1 and 9.5; 10 and 11 are their mirror images."""
    labels, silhouette = clusters_of(np.array([[0.0], [1.0], [10.0], [11.0]]), None, 5, seed=0)
    assert labels.tolist() == [0, 0, 1, 1]
    assert silhouette == pytest.approx((9.5 / 10.5 + 8.5 / 9.5) / 2)


@pytest.mark.parametrize("clusters", [None, 1, 3])
def test_nodes_that_say_the_same_are_one_cluster(clusters: int | None) -> None:
    labels, silhouette = clusters_of(np.ones((6, 4)), clusters, 5, seed=0)
    assert labels.tolist() == [0] * 6
    assert silhouette is None


def test_without_structure_all_stay_together() -> None:
    labels, _ = clusters_of(np.random.default_rng(3).normal(size=(12, 40)), None, 5, seed=0)
    assert set(labels.tolist()) == {0}
    assert set(clusters_of(np.random.default_rng(3).normal(size=(12, 40)), 3, 5, seed=0)[0].tolist()) == {0, 1, 2}


def test_a_node_tells_means_and_spreads_within_a_length_of_1() -> None:
    """Column means 0, 1.5 and 1000, spreads 2, 0 and 0: divided by 3 and the root of 6, and 1000 cut to 3."""
    rows = np.array([[-2.0, 1.5, 1000.0], [2.0, 1.5, 1000.0]])
    done = Done({}, Message(tables={"summary.moments": Moments.of(rows).table()}))
    message, _ = ByRows().answer(turn(), done, {})
    assert np.allclose(message.tables["summary"], np.array([0, 0.5, 1, 2 / 3, 0, 0]) / np.sqrt(6))
    extreme = Done({}, Message(tables={"summary.moments": Moments.of(rows * 1e9).table()}))
    assert np.linalg.norm(ByRows().answer(turn(), extreme, {})[0].tables["summary"]) <= 1
    assert ByRows().answer(turn(), Done({}, Message()), {}) == (Message(), {})


def test_noise_is_of_the_size_it_says_and_nobody_elses_unless_asked() -> None:
    done = Done({}, Message(tables={"summary.moments": Moments.of(np.zeros((2, 4000))).table()}))

    def noise(**settings: Any) -> Any:
        return ByRows(noise=0.5, **settings).answer(turn(), done, {})[0].tables["summary"]

    assert noise().std() == pytest.approx(0.5, rel=0.05)
    assert not np.array_equal(noise(), noise())
    assert np.array_equal(noise(secret=False), noise(secret=False))


def test_by_weights_it_is_the_direction_that_counts() -> None:
    strategy = Clustered(by={"name": "weights", "clusters": 2}, rounds=3)
    moved = {"pump-1": [1.0, 0.1], "pump-2": [9.0, 0.0], "valve-1": [0.0, 1.0], "valve-2": [0.2, 7.0]}
    tables = {}
    for node, step in moved.items():
        done = Done({"model": vector(5 + step[0], 3 + step[1])}, Message())
        tables[node], _ = strategy.answer(turn(1, "summarise"), done, {STARTED: np.array([5.0, 3.0], dtype=np.float32)})
    assert np.allclose(tables["pump-2"].tables["summary"], [9.0, 0.0])
    reply = strategy.exchange(turn(1, "summarise"), heard(strategy, tables), {})
    assert reply.messages is None
    assert reply.groups == {"pump-1": "0", "pump-2": "0", "valve-1": "1", "valve-2": "1"}


@pytest.mark.parametrize("by", ["rows", "weights"])
def test_two_kinds_of_nodes_are_told_apart(by: str) -> None:
    remembered = told(ran(Clustered(rounds=3, by=by, every=1)))
    assert json.loads(str(remembered["groups.1"])) == {"0": list(PUMPS), "1": list(VALVES)}
    assert remembered["groups"] == remembered["groups.2"]
    assert remembered["silhouette.1"] > 0.5


def test_ifca_nodes_choose_what_fits_them() -> None:
    """Algorithm 1 of Ghosh et al. 2020: of two kinds with opposite labels each comes to a model of its own, made of those who chose it."""
    rng, tables = np.random.default_rng(0), {}
    for name in (*PUMPS, *VALVES):
        x = rng.normal(size=(200, 3))
        tables[name] = Table.from_array(x, (x[:, 0] > 0) == (name in PUMPS))
    strategy = Clustered(rounds=4, by={"name": "loss", "clusters": 2}, after=0, every=1, strategy={"name": "fedavg", "epochs": 5})
    outcome = ran(strategy, Fleet.of(tables), Mlp(hidden=(4,), optimiser=Optimiser(rate=0.01, batch=32)))
    remembered = told(outcome)
    first, last = (json.loads(str(remembered[name])) for name in ("groups.0", "groups.3"))
    assert [len(members) for members in first.values()] == [1, 1]
    assert sorted(last.values()) == [list(PUMPS), list(VALVES)]
    for cluster, members in last.items():
        for node in members:
            assert outcome.memories[node]["clustered.chosen"] == cluster
            assert np.array_equal(outcome.memories[node]["network.model"], remembered[f"model.{cluster}/model"])


def test_ifca_lays_all_models_open_and_keeps_what_nobody_took() -> None:
    strategy = Clustered(by={"name": "loss", "clusters": 2}, after=0, every=1, rounds=3)
    groups = {"pump-1": "0", "pump-2": "0", "valve-1": "1", "valve-2": "1"}
    ours: Memory = {"groups": json.dumps({"0": ["pump-1", "pump-2"], "1": ["valve-1", "valve-2"]})}
    answers = {"pump-1": sent(2.0), "pump-2": sent(4.0), "valve-1": sent(10.0, rows=3.0), "valve-2": sent(6.0)}
    reply = strategy.exchange(turn(0), heard(strategy, answers, groups), ours)
    assert reply.messages is not None
    laid_open = {name: table.tolist() for name, table in reply.messages["*"].tables.items()}
    assert laid_open == {"0/model": [3.0], "0/norms": [], "1/model": [9.0], "1/norms": []}
    asked = strategy.work(turn(1, "summarise"), reply.messages["*"], {})
    assert {cluster: models["model"].values.tolist() for cluster, models in asked.models.items()} == {"0": [3.0], "1": [9.0]}
    chosen, mine = strategy.answer(turn(1, "summarise"), Done({}, Message(facts={"rows": 9.0, "summary.0": 0.5, "summary.1": 0.2})), {})
    assert chosen.facts == {"cluster": 1.0}
    (task,) = strategy.work(turn(1), reply.messages["*"], mine).tasks
    assert task.start["model"].values.tolist() == [9.0]
    # All choose the second model: the first is sent on as it was. One says a cluster that there is not, and stays with those it was with.
    said = {node: chosen if node != "valve-2" else Message(facts={"cluster": 7.0}) for node in answers}
    regrouped = strategy.exchange(turn(1, "summarise"), heard(strategy, said, groups), reply.memory)
    assert set(regrouped.groups.values()) == {"1"}
    again = strategy.exchange(turn(1), heard(strategy, answers, regrouped.groups), regrouped.memory)
    assert again.messages["*"].tables["0/model"].tolist() == [3.0]
    assert again.messages["*"].tables["1/model"].tolist() == [pytest.approx((2 + 4 + 30 + 6) / 6)]


def test_who_is_not_heard_stays_with_those_it_was_with() -> None:
    strategy = Clustered(by={"name": "rows", "clusters": 2}, every=1, rounds=3)
    ours: Memory = {"groups": json.dumps({"0": ["pump-1", "pump-2", "pump-3"], "1": ["valve-1", "valve-2"]})}
    places = {"pump-1": 0.0, "pump-2": 0.1, "valve-1": 5.0}
    tables = {node: Message(tables={"summary": np.array([at])}) for node, at in places.items()}
    tables |= {"new": Message()}
    reply = strategy.exchange(turn(2, "summarise", tuple(tables)), heard(strategy, tables), ours)
    assert reply.groups == {"pump-1": "0", "pump-2": "0", "pump-3": "0", "new": "0", "valve-1": "1", "valve-2": "1"}


# Learning in clusters.


def test_each_cluster_has_its_mean_and_its_momentum() -> None:
    """Pumps: 8, then 4: v = 8 - 4 and x = 4; then 3: v = 4 / 2 + 4 - 3 and x = 1 (FedAvgM). Valves stay at 100."""
    strategy = Clustered(strategy={"name": "fedavg", "momentum": 0.5}, by=PAIRS, after=0, every=1, rounds=3)
    reply = strategy.exchange(turn(0, "summarise"), heard(strategy, {node: Message() for node in turn().receivers}), {})
    assert reply.groups == {"pump-1": "pumps", "pump-2": "pumps", "valve-1": "others", "valve-2": "others"}
    memory, groups, pumps = reply.memory, reply.groups, []
    for number, mean in enumerate((8.0, 4.0, 3.0)):
        answers = {"pump-1": sent(mean - 1), "pump-2": sent(mean + 1), "valve-1": sent(100), "valve-2": sent(100), "late": sent(1e6)}
        reply = strategy.exchange(turn(number), heard(strategy, answers, groups), memory)
        # Grouped anew as it was, a cluster goes on with what it remembers.
        memory = strategy.exchange(turn(number + 1, "summarise"), heard(strategy, {}), reply.memory).memory
        pumps.append(float(reply.messages["pump-1"].vectors["model"].values[0]))
        assert reply.messages["valve-2"].vectors["model"].values.tolist() == [100]
        assert reply.messages["*"] in (reply.messages["pump-1"], reply.messages["valve-1"])
    assert pumps == [8, 4, 1]


def test_one_cluster_is_no_cluster() -> None:
    inner = FedAvg(rounds=4, momentum=0.5)
    plain = ran(inner)
    for by in (ByRows(clusters=1), ByWeights(clusters=1)):
        together = ran(Clustered(rounds=4, strategy=inner, by=by, every=2))
        for node, memory in plain.memories.items():
            assert memory.keys() == together.memories[node].keys()
            assert all(np.array_equal(value, together.memories[node][name]) for name, value in memory.items())


def test_a_cluster_learns_what_it_would_learn_alone() -> None:
    fleet, own = two_kinds(), DENSE.model_copy(update={"scaling": Scaling(numbers="standard", fit="local")})
    together = ran(Clustered(rounds=3, by=PAIRS, after=0), fleet, own)
    for kind in (PUMPS, VALVES):
        alone = ran(FedAvg(rounds=3), Fleet.of({node: fleet[node] for node in kind}), own)
        for node in kind:
            assert np.array_equal(together.memories[node]["network.model"], alone.memories[node]["network.model"])


@pytest.mark.parametrize("residual", ["variance", "mahalanobis"])
def test_residuals_are_weighed_by_what_is_usual_in_a_cluster(residual: str) -> None:
    """Without a prior as they would be if the cluster were alone; with a large one as they are among all. The threshold is common."""
    fleet = two_kinds()
    own = DENSE.model_copy(update={"scaling": Scaling(numbers="standard", fit="local"), "residual": residual})
    name = f"residuals.{own.residual_summary}"
    apart, drawn = (ran(Clustered(rounds=3, by=PAIRS, after=0, prior_rows=rows), fleet, own).memories for rows in (0, 1e9))
    common = ran(Clustered(rounds=3, by=PAIRS, after=0), fleet, own).memories
    for kind in (PUMPS, VALVES):
        alone = ran(FedAvg(rounds=3), Fleet.of({node: fleet[node] for node in kind}), own).memories
        for node in kind:
            assert np.array_equal(apart[node][name], alone[node][name])
            assert not np.allclose(apart[node][name], common[node][name])
            # Rows are counted, too: in a first row.
            assert np.allclose(drawn[node][name][1], common[node][name][1], atol=1e-6)
    assert len({memory["scores.sketch"].tobytes() for memory in apart.values()}) == 1


def test_clusters_may_differ_in_what_is_usual_alone() -> None:
    """The network is that of all nodes to the bit, momentum and all; the groups are those of clusters apart."""
    weighing, inner = DENSE.model_copy(update={"residual": "mahalanobis"}), FedAvg(rounds=4, momentum=0.5)
    plain = ran(inner, detector=weighing).memories
    outcome = ran(Clustered(rounds=4, strategy=inner, by="rows", every=2, networks="common", prior_rows=0), detector=weighing)
    assert json.loads(str(told(outcome)["groups"])) == {"0": list(PUMPS), "1": list(VALVES)}
    for kind in (PUMPS, VALVES):
        own = Covariance.merged(Covariance.from_table(np.asarray(plain[node]["own.residuals.covariance"])) for node in kind).table()
        for node in kind:
            assert np.array_equal(outcome.memories[node]["network.model"], plain[node]["network.model"])
            assert np.array_equal(outcome.memories[node]["residuals.covariance"], own)


def test_ifca_nodes_weigh_residuals_with_those_who_chose_alike() -> None:
    weighing = DENSE.model_copy(update={"residual": "variance"})
    strategy = Clustered(rounds=3, by={"name": "loss", "clusters": 2}, after=0, every=1, prior_rows=0)
    outcome = ran(strategy, detector=weighing)
    groups = json.loads(str(told(outcome)["groups"]))
    for cluster, members in groups.items():
        assert {outcome.memories[node]["clustered.cluster"] for node in members} == {float(cluster)}
        assert len({outcome.memories[node]["residuals.moments"].tobytes() for node in members}) == 1
    assert len({memory["residuals.moments"].tobytes() for memory in outcome.memories.values()}) == len(groups) == 2


def test_what_differs_from_node_to_node_does_so_within_a_cluster() -> None:
    """MTAD-FL sends each node its nearest peer's weights: here that of its own cluster, though another's are nearer."""
    strategy = Clustered(strategy=MtadFl(), by=PAIRS, after=0, rounds=2)
    weights = {"pump-1": (1.0, 0.0), "pump-2": (0.0, 1.0), "valve-1": (1.0, 0.1), "valve-2": (0.1, 1.0)}
    groups = {"pump-1": "pumps", "pump-2": "pumps", "valve-1": "others", "valve-2": "others"}
    ours: Memory = {"groups": json.dumps({"pumps": ["pump-1", "pump-2"], "others": ["valve-1", "valve-2"]})}
    answers = {node: Message({"features": vector(*values)}) for node, values in weights.items()}
    reply = strategy.exchange(turn(0, "match"), heard(strategy, answers, groups), ours)
    for node, peer in (("pump-1", "pump-2"), ("valve-2", "valve-1")):
        got = reply.messages[node].vectors.get("features")
        assert got is None or np.allclose(got.values, weights[peer])
    assert np.allclose(reply.messages["valve-1"].vectors["features"].values, weights["valve-2"])


def test_only_rounds_that_group_ask_and_send() -> None:
    plain, clustered = ran(FedAvg(rounds=4)), ran(Clustered(rounds=4, by={"name": "rows", "clusters": 2}, after=2, every=10))
    rounds = [[entry.sent for entry in outcome.history if entry.stage == "rounds"] for outcome in (plain, clustered)]
    # Means and spreads of six columns in float64, from six nodes, once.
    assert [there - here for here, there in zip(*rounds, strict=True)] == [0, 0, 6 * 12 * 8, 0]


# What it is made of.


@pytest.mark.parametrize("by", ["rows", {"name": "weights", "most": 3}, {"name": "loss", "clusters": 4}, PAIRS])
def test_every_grouping_survives_json(by: Any) -> None:
    strategy = Clustered(strategy={"name": "fedprox", "rounds": 3}, by=by, rounds=9)
    said = json.loads(json.dumps(describe(STRATEGIES, strategy)))
    assert build(STRATEGIES, said, "test") == strategy
    assert strategy.strategy.rounds == 9


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"strategy": "clustered"}, "'clustered' cannot be what a cluster does"),
        ({"strategy": "merge"}, "'merge' cannot be"),
        ({"strategy": "parameter-server"}, "'parameter-server' cannot be"),
        ({"strategy": {"name": "fedavg", "chain": ["clip"]}}, "say its chain and its privacy budget of 'clustered'"),
        ({"sample": 0.5}, "take sample = 1"),
        ({"by": "loss", "strategy": "local"}, "with 'local' a cluster shares none"),
        ({"by": "weights", "after": 0}, "take after = 1"),
        ({"prior_rows": 10, "strategy": "mtad-fl"}, "with 'mtad-fl' leave it out"),
        ({"prior_rows": -1}, "greater than or equal to 0"),
        ({"networks": "common"}, "differ in prior_rows alone"),
        ({"networks": "common", "prior_rows": 9, "by": "loss"}, "another 'by' than 'loss'"),
        ({"by": "colour"}, "expected tags"),
        ({"by": {"name": "given", "clusters": {"a/b": ["*"]}}}, "pattern"),
    ],
)
def test_what_cannot_be_is_said(settings: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        build(STRATEGIES, {"name": "clustered", **settings}, "[strategy]")


@pytest.mark.parametrize(
    ("detector", "strategy", "reason"),
    [
        ({}, {}, "weighs no residuals"),
        ({"residual": "variance", "threshold": Quantile(fit="local")}, {}, "each node weighs residuals by itself"),
        ({"residual": "variance"}, {"chain": ("clip", "noise"), "privacy": {"epsilon": 8}}, "told of all nodes together"),
    ],
)
def test_where_clusters_cannot_weigh_residuals_it_is_said(detector: Mapping[str, Any], strategy: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        plan_of(DENSE.model_copy(update=detector), Clustered(prior_rows=10, **strategy), 7)


def test_a_node_that_is_in_no_cluster_is_named() -> None:
    with pytest.raises(RecipeError, match="node 'valve-1' is in none of pumps"):
        ran(Clustered(rounds=1, after=0, by={"name": "given", "clusters": {"pumps": ["pump-*"]}}))


def test_an_owner_sees_through_it() -> None:
    """What the strategy within would be refused for is refused within clusters too."""
    wide = Policy(strategies=("*",))
    assert refusals(plan_of(DENSE, Clustered(), 7), wide) == []
    assert "clustered" in refusals(plan_of(DENSE, Clustered(), 7), Policy(strategies=("fedavg",)))[0]
    median = plan_of(DENSE, Clustered(strategy=FedAvg(aggregator="median")), 7)
    assert "aggregator 'median'" in refusals(median, Policy(strategies=("*",), aggregators=("mean",)))[0]
    many = plan_of(DENSE, Clustered(strategy=FedAvg(epochs=99)), 7)
    assert "most_epochs" in refusals(many, wide)[0]
