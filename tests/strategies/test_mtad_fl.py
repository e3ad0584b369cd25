"""MTAD-FL's matching against the double loop of its equations, and who gets what."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.dual_network import DualNetwork
from vedette.errors import RecipeError
from vedette.message import Message, Vector
from vedette.runtimes.base import plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.seeds import stream
from vedette.strategies import Clustered, FedKd, FedTl, MtadFl
from vedette.strategies.base import Turn
from vedette.strategies.similarity import distances, nearest_of
from vedette.strategies.view import Answers
from vedette.training.task import Distil, Optimiser

SMALL = {"scaling": Scaling(numbers="standard"), "optimiser": Optimiser(name="adamw", rate=0.01, schedule="cosine", batch=32)}
DUAL = DualNetwork(channels=(6, 8, 6), reduction=4, slots=4, **SMALL)


def turn(phase: str, number: int = 0) -> Turn:
    return Turn(number, phase, ("a", "b", "c"), {}, stream(0))


def by_the_book(matrix: np.ndarray) -> np.ndarray:
    """Equations 13 to 15, pair by pair, in float64."""
    rows = matrix.astype(np.float64)
    found = np.full((len(rows), len(rows)), np.inf)
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            lengths = np.sqrt((one**2).sum()) * np.sqrt((other**2).sum())
            cosine = (one * other).sum() / lengths if lengths > 0 else 0.0
            if i != j and cosine > 0:
                found[i, j] = np.sqrt(((one - other) ** 2).sum()) / cosine
    return found


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0, 30.0]), st.sampled_from([1.0, 1e-3]))
def test_distances_and_nearest_peers_are_those_of_the_double_loop(nodes, parameters, seed, shift, spread):
    matrix = (np.random.default_rng(seed).normal(0, spread, size=(nodes, parameters)) + shift).astype(np.float32)
    found, wanted = distances(matrix), by_the_book(matrix)
    # Where a cosine is all but 0, rounding may say either.
    clear = np.isfinite(found) & np.isfinite(wanted) & (wanted < 1e4 * np.abs(matrix).max())
    # Of pairs that are not nearest, distances before they are divided by the cosine may be off by a share of the deviations from the mean.
    exact = matrix.astype(np.float64)
    apart = np.sqrt(((exact[:, None] - exact) ** 2).sum(axis=2))
    with np.errstate(invalid="ignore"):
        cosine = apart[clear] / wanted[clear]
    sure = np.nan_to_num(cosine) > 1e-2
    off = 2e-3 * np.sqrt(((exact - exact.mean(axis=0)) ** 2).sum(axis=1).max())
    np.testing.assert_allclose((found[clear] * cosine)[sure], apart[clear][sure], rtol=2e-4, atol=off + 1e-6 * (1 + shift))
    assert np.array_equal(found, found.T)
    if shift:
        peers, shares = nearest_of(found)
        known = np.isfinite(wanted.min(axis=1)) & clear.any(axis=1)
        chosen = np.take_along_axis(wanted, peers, axis=1)[:, :1].ravel() if nodes > 1 else wanted[:, 0]
        np.testing.assert_allclose(chosen[known], wanted.min(axis=1)[known], rtol=1e-9)
        assert (shares.sum(axis=1)[known] == 1).all()


def test_nodes_that_are_all_but_equal_are_told_apart_in_float64():
    """Clusters far apart, members of each nearer to each other than float32 tells."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, size=(3, 500))
    matrix = (np.repeat(centres, 20, axis=0) + rng.normal(0, 1e-5, size=(60, 500))).astype(np.float32)
    wanted = by_the_book(matrix)
    np.testing.assert_array_equal(nearest_of(distances(matrix))[0][:, 0], wanted.argmin(axis=1))


def test_no_blocks_no_difference(monkeypatch):
    matrix = np.random.default_rng(0).normal(size=(7, 1000)).astype(np.float32) + 1
    whole = distances(matrix)
    monkeypatch.setattr("vedette.strategies.similarity.BLOCK", 13)
    np.testing.assert_allclose(distances(matrix), whole, rtol=1e-5)


def test_weights_that_point_elsewhere_are_far_and_never_nearest():
    matrix = np.array([[1.0, 0.0], [-0.1, 0.0], [9.0, 9.0], [0.0, 0.0]], dtype=np.float32)
    apart = distances(matrix)
    # The second is nearest by length alone, but points away; zeros point nowhere.
    assert apart[0, 1] == apart[0, 3] == np.inf
    peers, shares = nearest_of(apart)
    assert (peers[0], shares[0]) == ([2], [1])
    assert shares[1].tolist() == [0]
    assert shares[3].tolist() == [0]


def test_of_peers_equally_far_the_first_comes_first():
    apart = np.array([[np.inf, 2.0, 2.0], [2.0, np.inf, 1.0], [2.0, 1.0, np.inf]])
    assert nearest_of(apart)[0][:, 0].tolist() == [1, 2, 1]


def test_mixtures_are_weighted_by_the_inverse_of_the_distance():
    apart = np.array([[np.inf, 1.0, 3.0], [1.0, np.inf, 0.0], [3.0, 0.0, np.inf]])
    peers, shares = nearest_of(apart, 5)
    assert peers.tolist() == [[1, 2], [2, 0], [1, 0]]
    np.testing.assert_allclose(shares, [[0.75, 0.25], [1, 0], [1, 0]])


def view_of(strategy: MtadFl, rows: dict[str, list[float]]) -> Answers:
    view = Answers(strategy.channels)
    for node, values in rows.items():
        view.add(node, Message(vectors={"features": Vector(np.array(values, dtype=np.float32), "x")}))
    return view


def test_each_node_gets_its_nearest_peers_weights_as_they_are_and_the_result_tells():
    strategy = MtadFl()
    rows = {"a": [1.0, 1.0], "b": [1.1, 1.0], "c": [3.0, 0.1], "d": [-1.0, -1.0]}
    reply = strategy.exchange(turn("match", 2), view_of(strategy, rows), {"distances.1": np.zeros(1)})
    sent = {node: message.vectors["features"].values.tolist() for node, message in reply.messages.items()}
    assert sent == {node: pytest.approx(rows[peer]) for node, peer in {"a": "b", "b": "a", "c": "b"}.items()}
    assert {"distances.1", "distances.2", "received.2", "shares.2"} < set(reply.memory)
    assert json.loads(reply.memory["nodes"]) == ["a", "b", "c", "d"]
    assert reply.memory["received.2"][:, 0].tolist()[:3] == [1, 0, 1]
    mixed = MtadFl(nearest=2)
    halves = mixed.exchange(turn("match"), view_of(mixed, {"a": [1.0, 1.0], "b": [2.0, 1.0], "c": [1.0, 2.0]}), {}).messages["a"]
    assert halves.vectors["features"].values.tolist() == pytest.approx([1.5, 1.5])
    assert strategy.exchange(turn("transfer"), view_of(strategy, {}), {}).messages is None


def test_what_a_node_receives_goes_into_its_transfer_network():
    received = Message(vectors={"features": Vector(np.ones(2, dtype=np.float32), "x")})
    (local,) = MtadFl(epochs=3).work(turn("match"), received, {}).tasks
    (transfer,) = MtadFl(epochs=3).work(turn("transfer"), received, {}).tasks
    assert (local.role, local.start, local.epochs) == ("local", {}, 3)
    assert (transfer.role, transfer.start, transfer.span) == ("transfer", received.vectors, (0.0, 1.0))
    assert (local.span, local.keep_optimiser) == ((0.0, 0.25), True)


def test_transfer_networks_may_wait_for_the_last_match():
    strategy = MtadFl(rounds=4, epochs=3, transfer="last")
    assert (strategy.phases, strategy.closing) == (("match",), ("transfer",))
    (task,) = strategy.work(turn("transfer", 4), Message(), {}).tasks
    assert (task.role, task.epochs) == ("transfer", 12)
    passed = MtadFl(passed_on=True).work(turn("match"), Message({"features": Vector(np.ones(2), "x")}), {}).tasks[0]
    assert set(passed.start) == {"features"}
    assert not passed.keep_optimiser


def test_local_networks_may_go_on_without_transfer_networks(fleet):
    strategy = MtadFl(rounds=2, epochs=1, transfer="never", passed_on=True)
    assert (strategy.phases, strategy.closing) == (("match",), ())
    with pytest.raises(RecipeError, match="trains no 'transfer' network"):
        plan_of(DUAL, strategy, 0)
    with pytest.raises(RecipeError, match="trains no 'transfer' network"):
        plan_of(DUAL, Clustered(strategy=strategy, by={"name": "weights"}, rounds=2), 0)
    with pytest.raises(ValueError, match="passed_on"):
        MtadFl(transfer="never")
    local, passed = DUAL.model_copy(update={"scored_by": "local"}), strategy.model_copy(update={"transfer": "last"})
    memories = trained(strategy, fleet, local).memories
    assert "network.transfer" not in memories["node-0"]
    # Transfer networks take nothing away from Local ones, nor give them anything.
    np.testing.assert_array_equal(memories["node-0"]["network.local"], trained(passed, fleet, local).memories["node-0"]["network.local"])
    assert np.isfinite(local.restored(memories["node-0"]).decision_function(fleet["node-0"])).all()


def trained(strategy, fleet: Fleet, detector: DualNetwork = DUAL):
    return LocalRuntime(fleet).run(plan_of(detector, strategy, 3))


def conv_of(memory, role: str, width: int = 6) -> np.ndarray:
    from vedette.training.layout import layout_of

    held = layout_of(DUAL.networks(width)[role]).arrays(Vector(memory[f"network.{role}"], memory[f"layout.{role}"]))
    return held["conv2.weight"]


def test_nodes_with_different_features_learn_from_each_other():
    """Row by row, convolutions fit any number of features: each node scales and has what it has."""
    fleet = Fleet.of({"wide": correlated(200, 8, seed=1, anomalies=0.2), "narrow": correlated(200, 3, seed=2, anomalies=0.2)})
    own = DUAL.model_copy(update={"scaling": Scaling(numbers="standard", fit="local")})
    outcome = trained(MtadFl(rounds=2, epochs=1), fleet, own)
    for node in fleet:
        assert np.isfinite(own.restored(outcome.memories[node]).decision_function(fleet[node])).all()
    assert outcome.exchanged["rounds"]["*"]["received.1"].tolist() == [[1], [0]]
    averaged = trained(FedTl(rounds=1, epochs=1), fleet, own)
    assert len(conv_of(averaged.memories["wide"], "transfer", 8)) == len(conv_of(averaged.memories["narrow"], "transfer", 3))


def test_a_node_alone_trains_its_transfer_network_all_the_same():
    fleet = Fleet.of({"only": correlated(100, 6, seed=1, anomalies=0.2)})
    outcome = trained(MtadFl(rounds=2, epochs=1), fleet)
    assert np.isfinite(outcome.memories["only"]["network.transfer"]).all()


def test_teachers_are_the_average_of_all_and_learners_keep_their_own(fleet):
    teacher = Vector(np.ones(2, dtype=np.float32), "x")
    (first,), (later,) = (
        FedKd(weight=0.3, temperature=4).work(turn("train"), inbox, {}).tasks for inbox in (Message(), Message({"teacher": teacher}))
    )
    assert first.terms == ()
    assert later.terms == (Distil(teacher, 0.3, 4),)
    assert later.start == {}
    outcome = trained(FedKd(rounds=2, epochs=1), fleet)
    assert not np.array_equal(outcome.memories["node-0"]["network.transfer"], outcome.memories["node-1"]["network.transfer"])


def test_detectors_without_two_networks_are_refused_before_anything_runs():
    with pytest.raises(RecipeError, match="needs a detector with a 'local' network"):
        plan_of(Autoencoder(), MtadFl(), 0)
