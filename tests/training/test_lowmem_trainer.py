"""The trainer for little memory against the ordinary one, alone, side by side, in a process of its own and in federations."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaling
from vedette.data.stored import Stored
from vedette.data.table import Coded, Feature, Table
from vedette.detectors.autoencoder import Autoencoder
from vedette.detectors.lstm import LstmAutoencoder
from vedette.detectors.mlp import Mlp
from vedette.errors import DetectorMisused, RecipeError, StorageError, TrainingDiverged
from vedette.message import Channel
from vedette.runtimes.base import plan_of
from vedette.runtimes.local import LocalRuntime
from vedette.settings import build
from vedette.strategies.fedavg import FedAvg
from vedette.strategies.fedkd import FedKd
from vedette.strategies.fedprox import FedProx
from vedette.training.lowmem import process
from vedette.training.lowmem.trainer import LowmemTrainer, Penalty, narrowed
from vedette.training.task import Job, Optimiser, Task, Work
from vedette.training.trainer import LoopTrainer
from vedette.training.trainers import TRAINERS

WIDTH = 12
CLASSIFIER = Mlp(hidden=(16, 24), optimiser=Optimiser(batch=32, rate=0.01))
ONE_CLASS = Autoencoder(hidden=(8, 3), loss="mae", optimiser=Optimiser(name="sgd", rate=0.05, momentum=0.9, schedule="cosine", batch=32))


def rows(count: int = 300, seed: int = 0) -> Table:
    """Rows that a bent line divides, one feature in large units, some values missing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, WIDTH))
    y = (x[:, 0] + x[:, 1] ** 2 > 1).astype(np.int8)
    x[:, 2] = x[:, 2] * 1e4 + 1e6
    x[::17, 3] = np.nan
    return Table.from_array(x.astype(np.float32), y)


def on_disk(table: Table, folder: Path) -> Table:
    np.save(folder / "rows.npy", table.numbers)
    return Table(table.features, Stored(folder / "rows.npy"), label=table.label)


def trained(trainer, detector=CLASSIFIER, table=None, memory=None, seed=7, **task):
    table = rows() if table is None else table
    memory = detector.scaling.fitted(detector.scaling.summary(table)).memory() if memory is None else memory
    job = Job("n", table, Work(tasks=(Task(**{"epochs": 4.0, **task}),)), memory)
    ((_, done, after),) = trainer.run(detector, [job], (Channel("model"),), seed, 0, "train")
    return np.asarray(after["network.model"]), done.answers.facts, after


def differ(one, other) -> float:
    return float(np.abs(one[0] - other[0]).max())


@pytest.mark.parametrize(
    "detector", [CLASSIFIER, ONE_CLASS, Mlp(hidden=(9,), activation="leaky-relu", optimiser=Optimiser(name="adamw", decay=0.1))]
)
@pytest.mark.parametrize("settings", [{}, {"micro_batches": 4}, {"micro_batches": 5}])
def test_weights_are_those_of_the_ordinary_trainer(detector, settings):
    ordinary, small = trained(LoopTrainer(), detector), trained(LowmemTrainer(**settings), detector)
    assert differ(ordinary, small) < 1e-5
    assert small[1] == pytest.approx(ordinary[1], rel=1e-4)


def test_steps_batches_and_terms_are_those_of_the_task():
    for task in ({"steps": 7, "batch": 50}, {"epochs": 0.4}, {"span": (0.5, 1.0)}):
        assert differ(trained(LoopTrainer(), ONE_CLASS, **task), trained(LowmemTrainer(), ONE_CLASS, **task)) < 1e-5
    from vedette.training.task import Proximal

    pulled = {"terms": (Proximal(0.5),)}
    assert differ(trained(LoopTrainer(), **pulled), trained(LowmemTrainer(), **pulled)) < 1e-5
    assert differ(trained(LowmemTrainer(), **pulled), trained(LowmemTrainer())) > 1e-3


def test_the_optimiser_goes_on_where_it_was():
    for trainer in (LoopTrainer(), LowmemTrainer()):
        memory = trained(trainer, keep_optimiser=True)[2]
        after = trained(trainer, memory=memory, keep_optimiser=True)
        if isinstance(trainer, LoopTrainer):
            expected = after
    assert differ(expected, after) < 1e-5
    anew = trained(LowmemTrainer(), memory={key: value for key, value in memory.items() if not key.startswith("optimiser.")})
    assert differ(expected, anew) > 1e-4


def test_nodes_side_by_side_are_nodes_alone():
    tables = {f"n{i}": rows(290 + i, seed=i) for i in range(6)} | {"odd": rows(100, seed=9)}
    memory = {name: CLASSIFIER.scaling.fitted(CLASSIFIER.scaling.summary(table)).memory() for name, table in tables.items()}
    jobs = [Job(name, table, Work(tasks=(Task(epochs=3.0),)), memory[name]) for name, table in tables.items()]
    found = [
        {node: (after["network.model"], done.answers.facts) for node, done, after in trainer.run(CLASSIFIER, jobs, (), 7, 0, "train")}
        for trainer in (LowmemTrainer(), LowmemTrainer(together=4))
    ]
    assert list(found[1]) == list(tables)
    for node in tables:
        assert np.allclose(found[0][node][0], found[1][node][0], atol=1e-6)
        assert found[0][node][1] == pytest.approx(found[1][node][1], rel=1e-5)


@pytest.fixture(scope="module")
def apart() -> Iterator[Executor]:
    """A process without threads that others left: whatever allocates meanwhile is counted."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("budget", ["40 kB", "30 kB", "24 kB"])
@pytest.mark.parametrize("precision", [None, "float16"])
def test_a_step_stays_within_its_budget(tmp_path, apart, budget, precision):
    """What is allocated while steps are taken, NumPy's and Python's own, buffers included."""
    trainer = LowmemTrainer(memory_budget=budget, precision=precision)
    table = on_disk(rows(3000), tmp_path)
    detector = narrowed(CLASSIFIER, trainer, WIDTH)
    memory = detector.scaling.fitted(detector.scaling.summary(table)).memory()
    job = Job("n", table, Work(tasks=(Task(steps=30),)), memory)
    taken = apart.submit(trainer.measured_step, detector, job, 7).result(120)
    planned = trainer.planned_for(detector, WIDTH).bytes
    assert taken <= trainer.memory_budget
    assert planned <= trainer.memory_budget
    assert taken > planned - 16_000 - 4_000, "the promise is far from what is used"


def test_a_budget_is_spent_on_what_costs_least_first():
    wide = Mlp(hidden=(83, 128, 83), optimiser=Optimiser(batch=128))
    said = {budget: LowmemTrainer(memory_budget=budget).says(wide, 115) for budget in ("2 MB", "600 kB", "256 kB", "110 kB")}
    assert "float32, whole batches of 128 rows, adam:" in said["2 MB"]
    assert "float32" in said["600 kB"]
    assert "micro-batches" in said["600 kB"]
    assert "adam:" in said["600 kB"]
    assert "83-128-83" in said["256 kB"]
    assert "float16" in said["256 kB"]
    assert "of the width asked for" in said["110 kB"]
    assert "sgd instead of adam (rate × 100)" in said["110 kB"]


def test_what_does_not_fit_is_refused_with_what_would():
    wide = Mlp(hidden=(83, 128, 83), optimiser=Optimiser(batch=128))
    with pytest.raises(RecipeError, match=r"no step fits 1,000 bytes: the smallest way .* takes [0-9,]+"):
        narrowed(wide, LowmemTrainer(memory_budget="1 kB"), 115)
    with pytest.raises(RecipeError, match=r"precision = float32 leave no more choice|hidden layers of [0-9, ]+ would fit"):
        LowmemTrainer(memory_budget="150 kB", precision="float32").planned_for(wide, 115)
    for budget in ("256 furlongs", "-3 kB", 0):
        with pytest.raises(RecipeError, match="memory_budget"):
            build(TRAINERS, {"name": "lowmem", "memory_budget": budget}, "trainer")
    assert build(TRAINERS, {"name": "lowmem", "memory_budget": "1.5 MiB"}, "trainer").memory_budget == 1_572_864


def test_a_process_of_its_own_trains_the_same_and_holds_little(tmp_path):
    table = on_disk(rows(2000), tmp_path)
    here, apart = (LowmemTrainer(memory_budget="40 kB", own_process=own, penalty=Penalty(weight=1e-4), prune=0.01) for own in (False, True))
    for task in ({}, {"keep_optimiser": True}):
        one, other = trained(here, table=table, **task), trained(apart, table=table, **task)
        assert differ(one, other) == 0
        assert one[1] == other[1]
    assert 0 < apart.resident < 48e6
    chosen = table.take(np.arange(0, 2000, 3)).select([table.features[i].name for i in (3, 1, 0, 2)])
    assert differ(trained(here, table=chosen), trained(apart, table=chosen)) == 0


def test_a_training_process_that_is_killed_or_cut_off_is_told(tmp_path, monkeypatch):
    table = on_disk(rows(500), tmp_path)
    trainer = LowmemTrainer(own_process=True)
    killer = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    real = subprocess.run
    monkeypatch.setattr(process.subprocess, "run", lambda _, **settings: real([sys.executable, "-c", killer], **settings))
    with pytest.raises(StorageError, match="ended by signal 9"):
        trained(trainer, table=table)
    monkeypatch.undo()
    os.truncate(tmp_path / "rows.npy", 4000)
    with pytest.raises(StorageError, match=r"rows\.npy: the file was cut off"):
        trained(trainer, table=table, memory=CLASSIFIER.scaling.fitted(CLASSIFIER.scaling.summary(rows())).memory())
    with pytest.raises(RecipeError, match="they lie in memory"):
        trained(trainer)


def test_the_training_process_imports_neither_torch_nor_pydantic():
    said = subprocess.run(
        [sys.executable, "-c", "import sys, vedette.training.lowmem.process; print(sorted(m for m in sys.modules if '.' not in m))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "'numpy'" in said
    assert not any(f"'{heavy}'" in said for heavy in ("torch", "pydantic", "polars", "onnxruntime", "sklearn", "scipy"))


def test_any_rows_can_be_trained_on_windows_and_categories_too():
    """Where rows are no plain numbers they are scaled a few at a time by the detector's own scaling."""
    table = rows()
    named = Table((*table.features, Feature("state", "category")), table.numbers, (Coded.of(["on", "off", "on"] * 100),), label=table.label)
    windowed = ONE_CLASS.model_copy(update={"window": ONE_CLASS.window.model_copy(update={"size": 3})})
    for detector, given in ((CLASSIFIER, named), (windowed, table)):
        tight = trained(LowmemTrainer(memory_budget="400 kB"), detector, given)
        assert tight[1]["loss"] == pytest.approx(trained(LoopTrainer(), detector, given)[1]["loss"], rel=0.3)


def test_pruned_weights_are_zero_and_neurons_without_any_are_left_out():
    trainer = LowmemTrainer(penalty=Penalty(weight=2e-5, scale=0.1), prune=0.02)
    wide = Mlp(hidden=(40, 40), optimiser=Optimiser(batch=32, rate=0.005))
    table = rows(1000)
    values, _, memory = trained(trainer, wide, table, epochs=30.0)
    detector = wide.restored({**memory, "own.inputs.moments": np.zeros((3, WIDTH))})
    zero = values == 0
    assert zero.mean() > 0.6
    accuracy = ((detector.decision_function(table) > 0.5) == (table.label == 1)).mean()
    plain = trained(LowmemTrainer(), wide, table, epochs=30.0)[2]
    others = wide.restored({**plain, "own.inputs.moments": np.zeros((3, WIDTH))}).decision_function(table) > 0.5
    assert accuracy > (others == (table.label == 1)).mean() - 0.02
    again, _, _ = trained(trainer, wide, table, memory=memory, epochs=2.0)
    assert (again[zero] == 0).all()
    assert (again[~zero] != values[~zero]).any()


def test_diverging_training_says_so_and_where():
    with pytest.raises(TrainingDiverged, match="node 'n', round 1: the loss is no longer a number"):
        trained(LowmemTrainer(), ONE_CLASS.model_copy(update={"loss": "mse", "optimiser": Optimiser(name="sgd", rate=1e9)}))


def test_what_it_cannot_do_is_refused_in_a_sentence():
    table = rows()
    lstm = LstmAutoencoder(window=4, hidden=(4,), scaling=Scaling())
    with pytest.raises(DetectorMisused, match=r"knows dense layers, .*'steps'"):
        trained(LowmemTrainer(), lstm, table)
    with pytest.raises(DetectorMisused, match="'batch-norm'"):
        trained(LowmemTrainer(), Mlp(batch_norm=True), table)
    fleet = Fleet.of({"a": table, "b": rows(seed=1)})
    with pytest.raises(RecipeError, match="no room for a teacher"):
        LocalRuntime(fleet).run(plan_of(CLASSIFIER, FedKd(rounds=2), 7, trainer=LowmemTrainer()))
    hardened = CLASSIFIER.model_copy(update={"hardening": {"name": "fgsm"}})
    assert "evasion" in str(LowmemTrainer().refuses(hardened, Work()))


def fleet_of(nodes: int = 3) -> Fleet:
    return Fleet.of({f"n{i}": rows(200 + 10 * i, seed=i) for i in range(nodes)})


@pytest.mark.parametrize("strategy", [FedAvg(rounds=3, epochs=2), FedProx(rounds=3, epochs=1, mu=0.1)])
def test_small_nodes_and_torch_nodes_sit_in_one_federation(strategy):
    fleet = fleet_of()
    ordinary, mixed, small = (
        LocalRuntime(fleet).run(plan_of(CLASSIFIER, strategy, 7, trainer=trainer)).memories["n0"]["network.model"]
        for trainer in (None, LowmemTrainer(nodes=("n1",)), LowmemTrainer())
    )
    assert np.allclose(ordinary, mixed, atol=1e-5)
    assert np.allclose(ordinary, small, atol=1e-5)


def test_a_federation_that_prunes_ends_with_zeros_common_to_all():
    trainer = LowmemTrainer(memory_budget="60 kB", penalty=Penalty(weight=1e-3, scale=0.1), prune=0.05, precision="float16")
    outcome = LocalRuntime(fleet_of()).run(plan_of(CLASSIFIER, FedAvg(rounds=12, epochs=3), 7, trainer=trainer))
    weights = [np.asarray(memory["network.model"]) for memory in outcome.memories.values()]
    assert all(np.array_equal(weights[0], other) for other in weights)
    assert (weights[0] == 0).mean() > 0.3
    losses = [entry.loss for entry in outcome.history if entry.stage == "rounds"]
    assert losses[-1] < losses[0]


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path):
    trainer = LowmemTrainer(
        memory_budget="40 kB", precision="float16", prune=0.02, penalty=Penalty(weight=1e-5, growth=1e-5, scale=0.1, compared="fit")
    )
    plan = plan_of(CLASSIFIER, FedAvg(rounds=4, epochs=2), 7, trainer=trainer)
    whole = LocalRuntime(fleet_of()).run(plan)

    def die(entry, _):
        if entry.stage == "rounds" and entry.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalRuntime(fleet_of(), checkpoint=tmp_path / "state").run(plan, die)
    resumed = LocalRuntime(fleet_of(), checkpoint=tmp_path / "state", resume=True).run(plan)
    for node, memory in whole.memories.items():
        assert np.array_equal(memory["network.model"], resumed.memories[node]["network.model"])
        assert memory["optimiser.model.lambda"] == resumed.memories[node]["optimiser.model.lambda"]


def test_a_detector_fits_and_scores_without_torch(tmp_path):
    """A gateway has the base install: NumPy trains, NumPy scores."""
    code = f"""
import sys
sys.modules["torch"] = None
import numpy as np
from vedette.detectors.mlp import Mlp
from vedette.training.lowmem.trainer import LowmemTrainer
rng = np.random.default_rng(0)
x = rng.normal(size=(800, 5)).astype(np.float32)
y = (x[:, 0] > x[:, 1]).astype(int)
detector = Mlp(hidden=(16,), epochs=30).trained_by(LowmemTrainer(memory_budget="64 kB")).fit(x, y)
np.save({str(tmp_path / "scores.npy")!r}, detector.decision_function(x))
print((detector.predict(x) == y).mean())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.95


def test_scoring_in_numpy_takes_a_block_not_the_table():
    """In a process of its own: what others' threads allocate meanwhile is counted."""
    code = """
import tracemalloc
import numpy as np
from vedette.detectors.mlp import Mlp
from vedette.training.lowmem.trainer import LowmemTrainer
rng = np.random.default_rng(0)
x = rng.normal(size=(500, 3))
network = Mlp(hidden=(83, 128, 83)).trained_by(LowmemTrainer()).fit(x, (x[:, 0] > 0).astype(int)).network()
many = rng.normal(size=(20_000, 3)).astype(np.float32)
expected = network.forward(many)
tracemalloc.start()
found = network.forward(many)
print(tracemalloc.get_traced_memory()[1] - expected.nbytes)
assert np.array_equal(found, expected)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 5_000
