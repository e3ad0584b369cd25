"""DP-SGD against Opacus and plain torch by hand, what it refuses, and the budget that ends it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from conftest import correlated
from vedette.data.fleet import Fleet
from vedette.data.rebalance import Smote
from vedette.data.scaling import Scaling
from vedette.data.windows import Window
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.dual_network import DualNetwork
from vedette.detectors.lstm import LstmAutoencoder
from vedette.detectors.mlp import Mlp
from vedette.errors import BudgetSpent, MissingExtra, RecipeError
from vedette.message import Channel, Memory
from vedette.seeds import stream
from vedette.settings import build
from vedette.training.accounting import Release, epsilon_of, releases_of
from vedette.training.dpsgd import NOISE, RELEASED, DpSgdTrainer
from vedette.training.layout import initial
from vedette.training.networks import Network
from vedette.training.task import Distil, Job, Optimiser, Proximal, Task, Work
from vedette.training.trainer import LoopTrainer
from vedette.training.trainers import TRAINERS

opacus = pytest.importorskip("opacus")

DETECTOR = Autoencoder(hidden=(3,), scaling=Scaling(numbers="standard"), optimiser=Optimiser(name="sgd", rate=0.1, batch=30))
TABLE = correlated(150, 4, seed=3)
CHANNELS = (Channel("all"),)
FREE = DpSgdTrainer(noise=0.0, clip=1e6, secret=False)


def prepared(detector=DETECTOR, table=TABLE) -> Memory:
    return detector.scaling.fitted(detector.scaling.summary(table)).memory()


def trained(trainer, *tasks: Task, detector=DETECTOR, table=TABLE, memory: Memory | None = None, round: int = 0):
    job = Job("n", table, Work(tasks=tasks), prepared(detector, table) if memory is None else memory)
    ((_, done, after),) = trainer.run(detector, [job], CHANNELS, 7, round, "train")
    return done, after


def weights(trainer, *tasks: Task, **about) -> np.ndarray:
    return trained(trainer, *tasks, **about)[0].vectors["all"].values


def drawn(steps: int, share: float) -> list[np.ndarray]:
    """The batches that the seed tree gives the first task of node n."""
    rng = stream(7, "round", 0, "train", "node", "n", "task", 0)
    return [np.flatnonzero(rng.random(len(TABLE)) < share) for _ in range(steps)]


def started() -> tuple[Network, torch.Tensor]:
    network = Network(DETECTOR.networks(4)["model"])
    network.load(initial(network.layers, stream(7, "initial", "model")))
    return network, torch.from_numpy(DETECTOR.samples(TABLE, prepared()).all())


def test_without_noise_and_with_a_wide_clip_it_is_plain_descent_on_the_same_batches():
    """Each batch is divided by the size that is expected, not by the one that came."""
    network, x = started()
    for taken in drawn(20, 0.2):
        loss = ((network.module(x[taken]) - x[taken]) ** 2).mean(dim=1).sum() / 30
        for parameter, slope in zip(network.module.parameters(), torch.autograd.grad(loss, list(network.module.parameters())), strict=True):
            parameter.data -= 0.1 * slope
    assert np.allclose(weights(FREE, Task(steps=20)), network.vector().values, atol=1e-6)


def test_it_is_what_opacus_does_by_hand():
    network, x = started()
    module = opacus.GradSampleModule(network.module)
    optimiser = opacus.optimizers.DPOptimizer(
        torch.optim.SGD(network.module.parameters(), lr=0.1), noise_multiplier=0.0, max_grad_norm=0.05, expected_batch_size=30
    )
    for taken in drawn(20, 0.2):
        optimiser.zero_grad()
        rows = x[taken].requires_grad_()
        ((module(rows) - rows) ** 2).mean().backward()
        optimiser.step()
    found = weights(DpSgdTrainer(noise=0.0, clip=0.05, secret=False), Task(steps=20))
    assert np.allclose(found, network.vector().values, atol=1e-6)
    assert not np.allclose(found, weights(FREE, Task(steps=20)), atol=1e-3)


@pytest.mark.parametrize(
    ("detector", "table"),
    [
        (DETECTOR.model_copy(update={"window": Window(size=3)}), TABLE),
        (Mlp(hidden=(4,), optimiser=DETECTOR.optimiser), correlated(150, 4, seed=3, anomalies=0.3)),
        (DETECTOR.model_copy(update={"optimiser": Optimiser(rate=0.01, batch=30)}), TABLE),
    ],
    ids=["windows", "classifier", "adam"],
)
def test_all_rows_at_once_are_what_the_ordinary_trainer_does(detector, table):
    task = Task(steps=5, batch=1000)
    ours, plain = weights(FREE, task, detector=detector, table=table), weights(LoopTrainer(), task, detector=detector, table=table)
    assert np.allclose(ours, plain, atol=2e-5)


def test_convolutions_and_attention_are_taken_apart_row_by_row():
    layers = DualNetwork(channels=(4, 4, 4), reduction=2, slots=3, window=3).networks(12)["transfer"]
    network = Network([layer for layer in layers if layer["kind"] != "batch-norm"])
    network.load(initial(network.layers, np.random.default_rng(1)))
    x = torch.randn(6, 12, generator=torch.Generator().manual_seed(2)).requires_grad_()
    hooks = opacus.GradSampleModule(network.module)
    network.module(x).pow(2).mean().backward()
    found = [parameter.grad_sample for parameter in network.module.parameters()]
    hooks.remove_hooks()
    for place in range(len(x)):
        alone = torch.autograd.grad(network.module(x[place : place + 1]).pow(2).mean(), list(network.module.parameters()))
        assert all(torch.allclose(mine[place], theirs, atol=1e-6) for mine, theirs in zip(found, alone, strict=True))


def test_the_noise_is_as_large_as_it_is_said_to_be():
    """One step from the same weights: what differs from no noise is rate * noise * clip / batch times a standard normal variable."""
    wide = DETECTOR.model_copy(update={"hidden": (400,)})
    quiet = weights(DpSgdTrainer(noise=0.0, clip=0.5, secret=False), Task(steps=1), detector=wide)
    noise = (weights(DpSgdTrainer(noise=3.0, clip=0.5, secret=False), Task(steps=1), detector=wide) - quiet) / (0.1 * 3.0 * 0.5 / 30)
    assert len(noise) > 3000
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(1, abs=0.06)


def test_secret_noise_cannot_be_repeated_and_seeded_noise_can():
    task = Task(steps=3)
    seeded = DpSgdTrainer(noise=1.0, secret=False)
    assert np.array_equal(weights(seeded, task), weights(seeded, task))
    assert not np.array_equal(weights(seeded, task), weights(seeded, task, round=1))
    assert not np.array_equal(weights(DpSgdTrainer(noise=1.0), task), weights(DpSgdTrainer(noise=1.0), task))


def test_an_empty_batch_is_a_step_of_noise_alone():
    rare = Task(steps=1, batch=1)
    rounds = [round for round in range(30) if not (stream(7, "round", round, "train", "node", "n", "task", 0).random(150) < 1 / 150).any()]
    before = weights(FREE, Task(epochs=0))
    assert np.array_equal(weights(FREE, rare, round=rounds[0]), before)
    assert not np.array_equal(weights(DpSgdTrainer(noise=1.0), rare, round=rounds[0]), before)


def test_what_is_spent_is_told_and_adds_up_over_rounds():
    trainer = DpSgdTrainer(noise=2.0)
    first, memory = trained(trainer, Task(steps=10))
    second, memory = trained(trainer, Task(steps=10), memory=memory, round=1)
    assert first.answers.facts["epsilon"] == pytest.approx(epsilon_of([Release(2.0, 10, 0.2, "poisson")], 1e-5))
    assert second.answers.facts["epsilon"] == pytest.approx(epsilon_of([Release(2.0, 20, 0.2, "poisson")], 1e-5))
    assert releases_of(memory[RELEASED]) == [Release(2.0, 20, 0.2, "poisson")]
    # What it tells besides is not noised, so it tells no loss.
    assert set(second.answers.facts) == {"rows", "steps", "epsilon"}
    assert "epsilon" not in trained(FREE, Task(steps=1))[0].answers.facts


def test_a_row_that_stands_in_several_windows_is_charged_for_all_of_them():
    for window, parts in (({"size": 3}, 3), ({"size": 3, "stride": 2}, 2), ({"size": 3, "stride": 3}, 1)):
        detector = DETECTOR.model_copy(update={"window": Window(**window)})
        _, memory = trained(DpSgdTrainer(noise=50.0), Task(steps=2), detector=detector)
        assert releases_of(memory[RELEASED])[0].parts == parts


@pytest.mark.slow
def test_noise_is_calibrated_once_for_the_whole_training_which_then_keeps_the_budget():
    trainer = DpSgdTrainer(epsilon=4.0)
    memory, noises, spent = prepared(), [], []
    for round in range(4):
        done, memory = trained(trainer, Task(epochs=1, span=(round / 4, (round + 1) / 4)), memory=memory, round=round)
        noises.append(memory[NOISE])
        spent.append(done.answers.facts["epsilon"])
    assert len(set(noises)) == 1
    assert spent == sorted(spent)
    assert 3.97 < spent[-1] <= 4.0
    assert epsilon_of([Release(noises[0], 20, 0.2, "poisson")], 1e-5) == pytest.approx(spent[-1])
    kept = {name: np.array(value) for name, value in memory.items() if isinstance(value, np.ndarray)}
    with pytest.raises(BudgetSpent, match=r"node 'n', round 5: the privacy budget of epsilon 4 .* ends before release 1 of 5"):
        trained(trainer, Task(epochs=1), memory=memory, round=4)
    assert all(np.array_equal(memory[name], value) for name, value in kept.items())


def test_two_networks_share_a_budget():
    _, memory = trained(DpSgdTrainer(epsilon=4.0), Task(steps=10), Task(steps=10))
    assert 3.9 < epsilon_of(releases_of(memory[RELEASED]), 1e-5) <= 4.0


def test_an_optimiser_that_is_kept_goes_on():
    detector = DETECTOR.model_copy(update={"optimiser": Optimiser(rate=0.01, batch=1000)})
    whole = weights(FREE, Task(steps=4, keep_optimiser=True), detector=detector)
    _, half = trained(FREE, Task(steps=2, keep_optimiser=True), detector=detector)
    assert np.allclose(weights(FREE, Task(steps=2, keep_optimiser=True), detector=detector, memory=half), whole, atol=1e-6)


def test_layers_that_do_not_move_stay():
    before, after = weights(FREE, Task(epochs=0)), weights(DpSgdTrainer(noise=1.0), Task(steps=2, trains="decoder*"))
    assert np.array_equal(before[:15], after[:15])
    assert not np.isclose(before[15:], after[15:]).any()


def test_what_cannot_be_trained_with_privacy_is_refused():
    trainer = DpSgdTrainer(noise=1.0)
    lstm = LstmAutoencoder(window=3, hidden=(4,))
    with pytest.raises(RecipeError, match=r"cannot train the layer .* \(lstm\), whose gradients .* take dense or convolutional layers"):
        trained(trainer, Task(steps=1), detector=lstm)
    dual = DualNetwork(channels=(4, 4, 4), reduction=2, slots=3, window=3)
    labelled = correlated(60, 4, seed=1, anomalies=0.3)
    with pytest.raises(RecipeError, match=r"\(batch-norm\), by which a row's gradient depends on the others"):
        trained(trainer, Task("transfer", steps=1), detector=dual, table=labelled)
    teacher = trained(FREE, Task(epochs=0))[0].vectors["all"]
    assert trainer.refuses(DETECTOR, Work(tasks=(Task(terms=(Distil(teacher),)),))) is None
    for task, reason in ((Task(terms=(Proximal(0.1),)), "no proximal term"), (Task(extra=("given",)), "own rows alone")):
        assert reason in (trainer.refuses(DETECTOR, Work(tasks=(task,))) or "")
        with pytest.raises(RecipeError, match=reason):
            trained(trainer, task)
    assert "made of several rows" in (trainer.refuses(Mlp(rebalance=Smote()), Work()) or "")


def test_settings_that_give_no_privacy_are_refused():
    with pytest.raises(RecipeError, match="needs epsilon, noise, or both"):
        build(TRAINERS, "dp-sgd", "[trainer]")
    assert build(TRAINERS, {"name": "dp-sgd", "epsilon": 8}, "[trainer]") == DpSgdTrainer(epsilon=8)


@pytest.mark.slow
def test_a_fleet_learns_with_it():
    import vedette

    fleet = Fleet.of({f"node-{i}": correlated(150, 4, seed=i) for i in range(3)})
    trainer = DpSgdTrainer(epsilon=8.0, secret=False)
    result = vedette.federate(fleet, DETECTOR, vedette.strategies.FedAvg(rounds=3), trainer=trainer, seed=1)
    for node in fleet:
        spent = epsilon_of(releases_of(result.detectors[node].memory[RELEASED]), 1e-5)
        assert 7.9 < spent <= 8.0


def test_it_is_imported_when_it_is_used_and_says_what_it_needs(monkeypatch):
    code = "import sys, vedette, vedette.training.trainers; assert not {'opacus', 'dp_accounting', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    monkeypatch.setitem(sys.modules, "opacus", None)
    monkeypatch.setitem(sys.modules, "opacus.optimizers", None)
    with pytest.raises(MissingExtra, match=r"vedette\[privacy\]"):
        trained(DpSgdTrainer(noise=1.0), Task(steps=1))
