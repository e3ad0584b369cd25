"""The parameter server, worked out by hand, and against one machine that holds all rows."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.lstm import LstmAutoencoder
from vedette.errors import RecipeError
from vedette.evaluation.effort import by_lap
from vedette.message import Message, Vector
from vedette.runtimes.base import plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.runtimes.topology import Full
from vedette.seeds import stream
from vedette.strategies.base import Turn
from vedette.strategies.local import Local
from vedette.strategies.parameter_server import ParameterServer
from vedette.strategies.view import Answers
from vedette.training.task import Optimiser

ADAM = Autoencoder(hidden=(4, 2), scaling=Scaling(numbers="standard"), optimiser=Optimiser(rate=0.01, batch=32))


def turn(round: int = 0, phase: str = "train") -> Turn:
    return Turn(round, phase, ("a", "b"), {}, stream(0))


def answer(weights: list[float], state: list[float], rows: float) -> Message:
    vectors = {"model": Vector(np.array(weights, dtype=np.float32), "x"), "norms": Vector(np.zeros(0, dtype=np.float32), "y")}
    return Message(vectors, {"optimiser.model.m": np.array(state, dtype=np.float32)}, {"rows": rows, "state": "optimiser.model.m"})


def heard(strategy: ParameterServer, answers: dict[str, Message]) -> Answers:
    view = Answers(strategy.channels)
    for node in sorted(answers):
        view.add(node, answers[node])
    return view


def shards(rows: int, count: int) -> tuple[Fleet, Fleet]:
    """One data set as it is, and dealt out."""
    table = correlated(rows, 6, seed=3)
    return Fleet.of({"all": table}), Fleet.of({f"w{i}": table.take(np.arange(i, rows, count)) for i in range(count)})


def test_weights_and_what_the_optimiser_remembers_are_averaged_by_rows():
    strategy = ParameterServer()
    view = heard(strategy, {"a": answer([0, 4], [8], 30), "b": answer([4, 0], [0], 10)})
    message = strategy.exchange(turn(), view, {}).messages["*"]
    assert message.vectors["model"].values.tolist() == [1, 3]
    assert message.tables["optimiser.model.m"].tolist() == [6]
    work = strategy.work(turn(1), message, {})
    assert work.keep == message.tables
    assert work.tasks[0].start == message.vectors
    assert (work.tasks[0].steps, work.tasks[0].keep_optimiser) == (10, True)
    assert strategy.work(turn(1, "adopt"), message, {}).tasks[0].steps == 0


def test_the_server_moves_by_one_answer_at_a_time_the_less_the_staler_it_is():
    """With α = 0.5 and a = 1, of two workers: the first answer is the model, and an answer that is one move late is not stale."""
    strategy = ParameterServer(mode="asynchronous", mixing=0.5, discount=1, rounds=9)
    first = strategy.exchange(turn(0), heard(strategy, {"a": answer([8], [4], 1)}), {})
    assert list(first.messages) == ["a"]
    # b began with version 0 as well: one move late, share 0.5.
    second = strategy.exchange(turn(1), heard(strategy, {"b": answer([0], [0], 1)}), first.memory)
    assert second.messages["b"].vectors["model"].values.tolist() == [4]
    assert second.messages["b"].tables["optimiser.model.m"].tolist() == [2]
    # b began with what it was sent just now: not late at all.
    third = strategy.exchange(turn(2), heard(strategy, {"b": answer([0], [0], 1)}), second.memory)
    assert third.messages["b"].vectors["model"].values.tolist() == [2]
    # a was sent version 1 and it is version 3 now: one more than b's turn takes, share 0.25.
    last = strategy.exchange(turn(8), heard(strategy, {"a": answer([10], [0], 1)}), third.memory)
    assert last.messages["*"].vectors["model"].values.tolist() == [4]


def test_workers_that_take_turns_go_as_far_as_with_a_synchronous_server():
    """Each goes one further than it was sent; of three by turns the server then goes three further in nine answers, as in three rounds."""
    strategy, ours, sent = ParameterServer(mode="asynchronous", rounds=99), {}, dict.fromkeys("abc", 0.0)
    for round in range(60):
        node = "abc"[round % 3]
        told = Turn(round, "train", ("a", "b", "c"), {}, stream(0))
        reply = strategy.exchange(told, heard(strategy, {node: answer([sent[node] + 1], [0], 1)}), ours)
        ours, sent[node] = reply.memory, float(reply.messages[node].vectors["model"].values[0])
    assert ours["model"] == pytest.approx(20)


def test_an_answer_that_is_staler_than_the_bound_is_left_out():
    """Each answer but b's second is two moves of the server late at the most."""
    strategy, ours = ParameterServer(mode="asynchronous", mixing=0.5, discount=0, bound=2, rounds=9), {}
    for round, (node, weight, version, now) in enumerate(
        [("b", 8, 1, 8), ("a", 0, 2, 4), ("a", 0, 3, 2), ("a", 0, 4, 1), ("b", 99, 4, 1), ("b", 3, 5, 2)]
    ):
        reply = strategy.exchange(turn(round), heard(strategy, {node: answer([weight], [0], 1)}), ours)
        ours = reply.memory
        assert (ours["version"], ours[f"sent.{node}"]) == (version, version)
        assert reply.messages[node].vectors["model"].values.tolist() == [now]


def test_an_order_of_arrivals_is_whole():
    given = ParameterServer(mode="asynchronous", order=["b", "a"])
    assert (given.rounds, given.over([100, 100], 50).rounds, given.arrivals) == (2, 2, ("b", "a"))
    assert ParameterServer(mode="asynchronous", rounds=2).arrivals == ()
    assert ParameterServer().arrivals is None
    for settings in ({"mode": "asynchronous", "rounds": 3}, {}):
        with pytest.raises(ValueError, match="an order of arrivals is for an asynchronous server, one a round"):
            ParameterServer(order=["b", "a"], **settings)
    with pytest.raises(RecipeError, match="an answer of 'b' shall arrive in round 1, which is no node of this run"):
        LocalRuntime(shards(90, 3)[1]).run(plan_of(ADAM, given, 7))


def test_rounds_follow_from_epochs_and_a_step_of_all_sees_what_one_of_one_machine_does():
    plain = ParameterServer(steps=10, epochs=4)
    assert (plain.over([1000, 1000, 1000], 96).batch, plain.over([1000, 1000, 1000], 96).rounds) == (32, 12)  # 4 * 1000 / (10 * 32) = 12.5
    assert ParameterServer(steps=10, epochs=4, mode="asynchronous").over([1000] * 3, 96).rounds == 38  # 37.5, an arrival each
    given = ParameterServer(rounds=7, batch=50).over([1000, 1000], 96)
    assert (given.rounds, given.batch) == (7, 50)
    assert by_lap([4, 2, 3, 1, 1, 1, 0, 0], plain.laps) == [3, 2, 1, 0]


def test_a_step_of_all_workers_is_a_step_of_one_machine():
    """With plain gradient descent and a step between exchanges the mean of the weights is the step by the mean of the gradients."""
    whole, dealt = shards(300, 3)
    plain = ADAM.model_copy(update={"optimiser": Optimiser(name="sgd", rate=0.05, batch=300)})
    alone = LocalRuntime(whole).run(plan_of(plain, Local(rounds=5), 7))
    strategy = ParameterServer(steps=1, epochs=5).over([100, 100, 100], 300)
    together = LocalRuntime(dealt).run(plan_of(plain, strategy, 7))
    assert (strategy.batch, strategy.rounds) == (100, 5)
    for memory in together.memories.values():
        assert np.allclose(memory["network.model"], alone.memories["all"]["network.model"], atol=1e-6)
        ours, theirs = plain.restored(memory), plain.restored(alone.memories["all"])
        assert ours.threshold_ == pytest.approx(theirs.threshold_, rel=1e-3)
        assert np.array_equal(ours.scaler.transform(whole["all"]), theirs.scaler.transform(whole["all"]))


@pytest.mark.parametrize("detector", [ADAM, LstmAutoencoder(window=3, hidden=(5,), optimiser=Optimiser(rate=0.01, batch=32))])
def test_one_worker_is_one_machine(detector):
    """What Adam remembers goes to the server and comes back, to the bit."""
    whole, _ = shards(320 if detector is ADAM else 322, 1)
    alone = LocalRuntime(whole).run(plan_of(detector, Local(rounds=3), 7))
    together = LocalRuntime(whole).run(plan_of(detector, ParameterServer(steps=10, rounds=3), 7))
    for key in ("network.model", *(key for key in alone.memories["all"] if key.startswith("optimiser."))):
        assert np.array_equal(alone.memories["all"][key], together.memories["all"][key]), key


def test_arrivals_are_drawn_from_the_seed_and_in_the_end_all_have_the_same():
    _, dealt = shards(300, 3)
    strategy = ParameterServer(mode="asynchronous", steps=3, epochs=40).over([100] * 3, 96)
    first, again, other = (LocalRuntime(dealt).run(plan_of(ADAM, strategy, seed)) for seed in (7, 7, 8))
    assert first.history == again.history
    weights = [outcome.memories[node]["network.model"] for outcome in (first, again) for node in dealt]
    assert all(np.array_equal(weights[0], each) for each in weights)
    assert not np.array_equal(weights[0], other.memories["w0"]["network.model"])
    server = first.exchanged["rounds"]["*"]
    assert server["version"] == strategy.rounds == 125
    # Drawn, it is a run of that order like any other.
    order = [node for entry in first.history for node in entry.late]
    told = LocalRuntime(dealt).run(plan_of(ADAM, strategy.model_copy(update={"order": tuple(order)}), 7))
    assert told.history == first.history
    assert np.array_equal(told.memories["w0"]["network.model"], weights[0])
    assert {key for key in server if key.startswith("sent.")} == {"sent.w0", "sent.w1", "sent.w2"}
    losses = [entry.loss for entry in first.history if entry.stage == "rounds"]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_peers_have_no_server_to_arrive_at():
    _, dealt = shards(90, 3)
    with pytest.raises(RecipeError, match="topology = 'server', or mode = 'synchronous'"):
        LocalRuntime(dealt).run(plan_of(ADAM, ParameterServer(mode="asynchronous", rounds=2), 7, Full()))
