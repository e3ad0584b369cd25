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
    """With α = 0.5 and a = 1: the first answer is the model; b began with version 0 as well, so its staleness is 1 and its share 0.25."""
    strategy = ParameterServer(mode="asynchronous", mixing=0.5, discount=1, rounds=9)
    first = strategy.exchange(turn(0), heard(strategy, {"a": answer([8], [4], 1)}), {})
    assert list(first.messages) == ["a"]
    second = strategy.exchange(turn(1), heard(strategy, {"b": answer([0], [0], 1)}), first.memory)
    assert second.messages["b"].vectors["model"].values.tolist() == [6]
    assert second.messages["b"].tables["optimiser.model.m"].tolist() == [3]
    # b began with what it was sent just now: staleness 0, share 0.5.
    third = strategy.exchange(turn(2), heard(strategy, {"b": answer([0], [0], 1)}), second.memory)
    assert third.messages["b"].vectors["model"].values.tolist() == [3]
    # a was sent version 1 and it is version 3 now: staleness 2, share 1/6.
    last = strategy.exchange(turn(8), heard(strategy, {"a": answer([9], [0], 1)}), third.memory)
    assert last.messages["*"].vectors["model"].values.tolist() == [4]


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
    assert {key for key in server if key.startswith("sent.")} == {"sent.w0", "sent.w1", "sent.w2"}
    losses = [entry.loss for entry in first.history if entry.stage == "rounds"]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_peers_have_no_server_to_arrive_at():
    _, dealt = shards(90, 3)
    with pytest.raises(RecipeError, match="topology = 'server', or mode = 'synchronous'"):
        LocalRuntime(dealt).run(plan_of(ADAM, ParameterServer(mode="asynchronous", rounds=2), 7, Full()))
