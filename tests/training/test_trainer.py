"""The trainer against plain torch, and what tasks say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import correlated
from vedette.data.scaling import Scaling
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.mlp import Mlp
from vedette.errors import DataUnusable, DetectorMisused, TrainingDiverged
from vedette.message import Channel, Memory, Vector
from vedette.seeds import stream
from vedette.training.layout import initial, layout_of
from vedette.training.networks import Network
from vedette.training.task import Distil, Job, Optimiser, Proximal, Task, Work
from vedette.training.trainer import LoopTrainer

DETECTOR = Autoencoder(hidden=(3,), scaling=Scaling(numbers="standard"), optimiser=Optimiser(name="sgd", rate=0.1, batch=50))
TABLE = correlated(150, 4, seed=3)
CHANNELS = (Channel("all"), Channel("encoder", part="encoder*"))


def prepared() -> Memory:
    return DETECTOR.scaling.fitted(DETECTOR.scaling.summary(TABLE)).memory()


def trained(*tasks: Task, detector=DETECTOR, memory: Memory | None = None, **work):
    job = Job("n", TABLE, Work(tasks=tasks, **work), prepared() if memory is None else memory)
    ((_, done, after),) = LoopTrainer().run(detector, [job], CHANNELS, 7, 0, "train")
    return done, after


def first_weights() -> Vector:
    return initial(DETECTOR.networks(4)["model"], stream(7, "initial", "model"))


def test_full_batch_descent_is_what_torch_does_by_hand():
    """Three steps on all rows: no shuffling can matter, so autograd by hand must give the same weights."""
    done, _ = trained(Task(epochs=3, batch=150))
    x = torch.from_numpy(DETECTOR.samples(TABLE, prepared()).all())
    layers = DETECTOR.networks(4)["model"]
    arrays = layout_of(layers).arrays(first_weights())
    names = ("encoder1.weight", "encoder1.bias", "decoder1.weight", "decoder1.bias")
    w1, b1, w2, b2 = (torch.tensor(arrays[name], requires_grad=True) for name in names)
    for _ in range(3):
        loss = ((torch.relu(x @ w1.T + b1) @ w2.T + b2 - x) ** 2).mean()
        gradients = torch.autograd.grad(loss, (w1, b1, w2, b2))
        with torch.no_grad():
            for parameter, gradient in zip((w1, b1, w2, b2), gradients, strict=True):
                parameter -= 0.1 * gradient
    expected = np.concatenate([p.detach().numpy().ravel() for p in (w1, b1, w2, b2)])
    assert np.allclose(done.vectors["all"].values, expected, atol=1e-6)
    assert done.answers.facts["steps"] == 3
    assert done.answers.facts["rows"] == 150


def test_the_learning_rate_falls_over_the_span_of_a_task():
    """A step at 0.1, one at 0.05 where half the training is done, none where all of it is."""
    falling = DETECTOR.model_copy(update={"optimiser": Optimiser(name="sgd", rate=0.1, batch=150, schedule="cosine")})
    moved = {}
    for begin in (0.0, 0.5, 1.0):
        done, _ = trained(Task(epochs=1, batch=150, span=(begin, 1.0)), detector=falling)
        moved[begin] = done.vectors["all"].values - first_weights().values
    plain, _ = trained(Task(epochs=1, batch=150, span=(0.5, 1.0)))
    np.testing.assert_allclose(plain.vectors["all"].values - first_weights().values, moved[0.0], atol=1e-7)
    np.testing.assert_allclose(moved[0.5], moved[0.0] / 2, atol=1e-6)
    assert not moved[1.0].any()
    # Within a task it falls step by step: two steps go from 0.1 to 0.05.
    both, _ = trained(Task(steps=2, batch=150, span=(0.0, 1.0)), detector=falling)
    _, after = trained(Task(steps=1, batch=150, span=(0.0, 0.0)), detector=falling)
    second, _ = trained(Task(steps=1, batch=150, span=(0.5, 0.5)), detector=falling, memory=after)
    np.testing.assert_allclose(both.vectors["all"].values, second.vectors["all"].values, atol=1e-6)


def test_zero_epochs_only_load():
    start = Vector(np.full(layout_of(DETECTOR.networks(4)["model"]).size, 0.25, dtype=np.float32), first_weights().layout)
    done, memory = trained(Task(start={"all": start}, epochs=0))
    assert (done.vectors["all"].values == 0.25).all()
    assert (memory["network.model"] == 0.25).all()
    assert "loss" not in done.answers.facts


def test_a_part_can_be_loaded_and_trained_alone():
    layout = layout_of(DETECTOR.networks(4)["model"]).part("encoder*", "weights")
    start = Vector(np.full(layout.size, 0.5, dtype=np.float32), layout.hash)
    done, _ = trained(Task(start={"encoder": start}, trains="decoder*"))
    assert (done.vectors["encoder"].values == 0.5).all()
    before = first_weights().values[layout.size :]
    assert not np.array_equal(done.vectors["all"].values[layout.size :], before)


def test_a_vector_of_another_network_is_refused():
    with pytest.raises(DetectorMisused, match="layout"):
        trained(Task(start={"all": Vector(np.zeros(5, dtype=np.float32), "other")}))


def test_steps_are_counted_and_epochs_may_be_parts():
    assert trained(Task(steps=7))[0].answers.facts["steps"] == 7
    assert trained(Task(epochs=0.5))[0].answers.facts["steps"] == 2
    assert trained(Task(epochs=2))[0].answers.facts["steps"] == 6


def test_every_row_is_visited_once_an_epoch():
    from vedette.training.rows import TrainingRows

    marked = correlated(150, 4, seed=3)
    rows = TrainingRows(DETECTOR, marked, prepared())
    for size in (1, 7, 50, 150, 400):
        steps = -(-150 // size)
        seen = np.concatenate([inputs for inputs, _ in rows.batches(size, steps, np.random.default_rng(1))])
        whole = DETECTOR.samples(marked, prepared()).all()
        assert len(seen) == 150
        assert {row.tobytes() for row in seen} <= {row.tobytes() for row in whole}
        assert len({row.tobytes() for row in seen}) == len(seen)


def test_rows_scaled_block_by_block_train_the_same(monkeypatch):
    kept, _ = trained(Task(epochs=2))
    monkeypatch.setattr("vedette.data.windows.CACHE_BYTES", 0)
    streamed, _ = trained(Task(epochs=2))
    assert np.array_equal(kept.vectors["all"].values, streamed.vectors["all"].values)


def test_extra_rows_are_trained_on_too():
    scaled = DETECTOR.samples(TABLE, prepared()).all()
    extra = np.column_stack([scaled[:30], np.zeros(30)]).astype(np.float32)
    done, _ = trained(Task(extra=("given",), steps=None, epochs=1, batch=180), tables={"given": extra})
    assert done.answers.facts["steps"] == 1
    # One step on all 180 rows is one step on a batch in which 30 rows count twice.
    x = torch.from_numpy(np.concatenate([scaled, scaled[:30]]))
    network = Network(DETECTOR.networks(4)["model"])
    network.load(first_weights())
    loss = ((network.module(x) - x) ** 2).mean()
    loss.backward()
    for parameter in network.module.parameters():
        parameter.data -= 0.1 * parameter.grad
    assert np.allclose(done.vectors["all"].values, network.vector().values, atol=1e-6)


def test_a_proximal_term_holds_weights_near_the_anchor():
    free, _ = trained(Task(epochs=20))
    held, _ = trained(Task(epochs=20, terms=(Proximal(5.0),)))
    anchored, _ = trained(Task(epochs=60, terms=(Proximal(8.0, Vector(np.zeros_like(first_weights().values), first_weights().layout)),)))
    start = first_weights().values
    assert np.linalg.norm(held.vectors["all"].values - start) < 0.3 * np.linalg.norm(free.vectors["all"].values - start)
    assert np.linalg.norm(anchored.vectors["all"].values) < 0.1 * np.linalg.norm(start)


CLASSIFIER = Mlp(hidden=(3,), scaling=DETECTOR.scaling, optimiser=DETECTOR.optimiser)


@pytest.mark.parametrize("detector", [DETECTOR, CLASSIFIER], ids=["autoencoder", "mlp"])
def test_distilling_draws_outputs_to_the_teachers(detector):
    teacher = initial(detector.networks(4)["model"], stream(99, "teacher"))
    network = Network(detector.networks(4)["model"])
    x = detector.samples(TABLE, prepared()).all()

    def gap(vector: Vector) -> float:
        network.load(vector)
        ours = network.forward(x)
        network.load(teacher)
        return float(((ours - network.forward(x)) ** 2).mean())

    alone, _ = trained(Task(epochs=30), detector=detector)
    taught, _ = trained(Task(epochs=30, terms=(Distil(teacher, weight=20.0, temperature=2.0),)), detector=detector)
    assert gap(taught.vectors["all"]) < 0.2 * gap(alone.vectors["all"])


def test_an_optimiser_that_is_kept_goes_on():
    adam = DETECTOR.model_copy(update={"optimiser": Optimiser(rate=0.01, batch=150)})
    whole, _ = trained(Task(epochs=4, keep_optimiser=True), detector=adam)
    _, half = trained(Task(epochs=2, keep_optimiser=True), detector=adam)
    rest, _ = trained(Task(epochs=2, keep_optimiser=True), detector=adam, memory=half)
    forgot, _ = trained(Task(epochs=2), detector=adam, memory=half)
    assert np.allclose(whole.vectors["all"].values, rest.vectors["all"].values, atol=1e-6)
    assert not np.allclose(whole.vectors["all"].values, forgot.vectors["all"].values, atol=1e-6)


def test_what_cannot_be_trained_is_said():
    empty = Job("pump-9", TABLE.take(slice(0, 0)), Work(tasks=(Task(),)), prepared())
    with pytest.raises(DataUnusable, match="pump-9"):
        list(LoopTrainer().run(DETECTOR, [empty], (), 7, 0, "train"))
    wild = DETECTOR.model_copy(update={"optimiser": Optimiser(name="sgd", rate=1e30, batch=10)})
    with pytest.raises(TrainingDiverged, match=r"node 'n'.*round 1"):
        trained(Task(), detector=wild)


def test_rows_of_another_width_are_refused():
    for given in (np.zeros((3, 4)), np.zeros(5), np.full((2, 5), np.nan)):
        with pytest.raises(DetectorMisused, match="rows to train on"):
            trained(Task(extra=("given",)), tables={"given": given})
