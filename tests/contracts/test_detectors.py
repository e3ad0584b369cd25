"""Every registered detector, through the same checks: a new one is tested by being registered."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from conftest import correlated, with_category
from vedette.data.scaling import Scaling
from vedette.data.table import Table
from vedette.data.windows import Window
from vedette.detectors.base import DETECTORS, Detector
from vedette.detectors.bundle import load_bundle, save_bundle
from vedette.detectors.network import NetworkDetector
from vedette.errors import CheckpointError, DataUnusable, DetectorMisused
from vedette.seeds import stream
from vedette.settings import build, describe
from vedette.training.layout import initial
from vedette.training.task import Optimiser

QUICK = {"epochs": 12, "optimiser": Optimiser(rate=0.01, batch=32)}
# So little to learn from that the defaults would be too much.
SMALL = {
    "lstm-autoencoder": {"window": Window(size=2), "hidden": (24,)},
    "se-ea-edn": {"channels": (16, 16, 16), "reduction": 4, "slots": 8},
}
# Areas under the ROC curve to reach, on single rows and over windows of three; the others must reach 0.9. Those that look at each
# feature by itself, or at distances, see little of broken relations: the marginals are the same.
AREAS = {
    "deep-svdd": (0.9, 0.75),
    "ecod": (0.6, 0.55),
    "gradient-boosting": (0.95, 0.8),
    "isolation-forest": (0.7, 0.55),
    "k-means": (0.7, 0.55),
    "knn": (0.95, 0.7),
    "ocsvm": (0.95, 0.7),
    "vae": (0.85, 0.65),
    "logistic-regression": (0.4, 0.4),
    "svm": (0.4, 0.4),
    "variance-distance": (0.4, 0.4),
}
KINDS = sorted(DETECTORS)
NAMES = [*KINDS, *(f"{name} over windows" for name in KINDS)]
HEAVY = {f"{name} over windows" for name in ("deep-svdd", "se-ea-edn", "vae")}
"""Those that train for long, and over windows as on rows: left to `make test-all`."""


def kind_of(name: str) -> type[Detector]:
    return DETECTORS[name.removesuffix(" over windows")]


def made(name: str, **settings) -> Detector:
    kind = kind_of(name)
    if name not in KINDS:
        settings = {"window": Window(size=3), **settings}
    small = SMALL.get(name.removesuffix(" over windows"), {})
    base = {"scaling": Scaling(numbers="standard"), **(QUICK if issubclass(kind, NetworkDetector) else {}), **small}
    return kind(**{**base, **settings})


@pytest.fixture(scope="module")
def train() -> Table:
    return correlated(500, 6, seed=1, anomalies=0.15)


@pytest.fixture(scope="module")
def test() -> Table:
    return correlated(400, 6, seed=2, anomalies=0.2)


class Fitted(dict[str, Detector]):
    """Fits each when it is first asked for: of several processes that share these tests none fits all."""

    def __init__(self, train: Table) -> None:
        super().__init__()
        self.train = train

    def __missing__(self, name: str) -> Detector:
        self[name] = made(name).fit(self.train, seed=3)
        return self[name]


@pytest.fixture(scope="module")
def fitted(train) -> Fitted:
    return Fitted(train)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in HEAVY else []) for name in NAMES])
class TestEveryDetector:
    def test_keeps_pyods_contract(self, name, fitted, train, test):
        detector = fitted[name]
        scores = detector.decision_function(test)
        assert scores.shape == (len(test),)
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()
        assert (scores >= 0).all()
        assert set(np.unique(detector.predict(test))) <= {0, 1}
        assert np.array_equal(detector.predict(test), (scores >= detector.threshold_).astype(int))
        assert np.array_equal(detector.decision_scores_, detector.decision_function(train))
        assert np.array_equal(detector.labels_, detector.predict(train))
        assert detector.learning in ("one-class", "supervised", "unsupervised")

    def test_scores_are_diverse(self, name, fitted, test):
        # A softmax over places that is all but one place leaves some rows nothing to differ by.
        least = 0.8 if name.startswith("se-ea-edn") else 0.95
        assert len(np.unique(fitted[name].decision_function(test))) > least * len(test)

    def test_finds_broken_relations(self, name, fitted, test):
        area = roc_auc_score(test.label, fitted[name].decision_function(test))
        assert area > AREAS.get(name.removesuffix(" over windows"), (0.9, 0.9))[name not in KINDS]

    def test_ignores_labels_when_scoring(self, name, fitted, test):
        poisoned = Table(test.features, test.numbers, label=1 - test.label)
        assert np.array_equal(fitted[name].decision_function(poisoned), fitted[name].decision_function(test))

    def test_is_causal(self, name, fitted, test, monkeypatch):
        whole = fitted[name].decision_function(test)
        monkeypatch.setattr("vedette.data.windows.CHUNK_VALUES", 0)  # 256 rows a chunk, so that windows reach back into the one before
        assert np.allclose(fitted[name].decision_function(test), whole, rtol=1e-5)
        for cut in (1, 37, 399):
            assert np.allclose(fitted[name].decision_function(test.take(slice(0, cut))), whole[:cut], rtol=1e-5)

    def test_scoring_is_pure(self, name, fitted, test):
        before = {key: np.array(value) for key, value in fitted[name].memory.items()}
        assert np.array_equal(fitted[name].decision_function(test), fitted[name].decision_function(test))
        assert all(np.array_equal(before[key], value) for key, value in fitted[name].memory.items())

    def test_is_deterministic(self, name, train, test, fitted):
        again = made(name).fit(train, seed=3)
        assert np.array_equal(again.decision_function(test), fitted[name].decision_function(test))
        assert again.threshold_ == fitted[name].threshold_

    def test_survives_the_disk(self, name, fitted, test, tmp_path):
        if not fitted[name].bundled:
            with pytest.raises(DetectorMisused, match="cannot be stored"):
                save_bundle(fitted[name], tmp_path / "x")
            assert not (tmp_path / "x").exists()
            with pytest.raises(DetectorMisused, match="cannot be restored"):
                made(name).restore(fitted[name].memory).decision_function(test)
            return
        save_bundle(fitted[name], tmp_path, {"recipe": "mine"})
        assert json.loads((tmp_path / "detector.json").read_text())["provenance"] == {"recipe": "mine"}
        scores = fitted[name].decision_function(test)
        exact, back = load_bundle(tmp_path, engine="torch"), load_bundle(tmp_path)
        assert np.array_equal(exact.decision_function(test), scores)
        np.testing.assert_allclose(back.decision_function(test), scores, rtol=1e-5, atol=1e-5)
        assert type(back) is type(fitted[name])
        assert back.threshold_ == fitted[name].threshold_

    def test_damage_is_noticed(self, name, fitted, tmp_path):
        if not fitted[name].bundled:
            return
        save_bundle(fitted[name], tmp_path)
        weights = tmp_path / "weights.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        with pytest.raises(CheckpointError, match="checksum"):
            load_bundle(tmp_path)
        about = json.loads((tmp_path / "detector.json").read_text())
        (tmp_path / "detector.json").write_text(json.dumps({**about, "schema": "vedette.bundle/99"}))
        with pytest.raises(CheckpointError, match="format"):
            load_bundle(tmp_path)
        (tmp_path / "detector.json").write_text("[]")
        with pytest.raises(CheckpointError):
            load_bundle(tmp_path)

    def test_takes_arrays_and_categories(self, name, train, test):
        learner = made(name)
        learner.fit(train.numbers, train.label)
        assert learner.decision_function(test.numbers).shape == (len(test),)
        mixed = made(name).fit(with_category(train, 5))
        assert mixed.decision_function(with_category(test, 6)).shape == (len(test),)
        with pytest.raises(DetectorMisused, match="Table"):
            mixed.decision_function(test.numbers)

    def test_misuse_is_said_in_a_line(self, name, fitted, test):
        with pytest.raises(DetectorMisused, match="not fitted"):
            made(name).decision_function(test)
        with pytest.raises(DetectorMisused, match="array of shape"):
            fitted[name].decision_function(test.numbers[:, :4])
        with pytest.raises(DetectorMisused, match="lack feature 's5'"):
            fitted[name].decision_function(test.select([f"s{i}" for i in range(5)]))
        with pytest.raises(DataUnusable):
            made(name).fit(test.take(slice(0, 0)))

    def test_settings_survive_json(self, name):
        detector = made(name)
        said = json.loads(json.dumps(describe(DETECTORS, detector)))
        assert build(DETECTORS, said, "test") == detector

    def test_learns_nothing_from_anomalous_rows_if_one_class(self, name, fitted, train, test):
        if kind_of(name).learning != "one-class":
            pytest.skip("learns from labels")
        numbers = np.array(train.numbers)
        numbers[train.label == 1] *= 1000
        wild = made(name).fit(Table(train.features, numbers, label=train.label), seed=3)
        assert np.array_equal(wild.decision_function(test), fitted[name].decision_function(test))


def test_every_registered_detector_is_tried():
    assert set(KINDS) == set(DETECTORS)


NETWORKS = [name for name in NAMES if issubclass(kind_of(name), NetworkDetector)]


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_layer(name, fitted, train):
    detector = fitted[name]
    layers = detector.networks(detector.samples(train, detector.memory).width)[detector.role]
    layout = detector.network().layout
    first = layout.arrays(initial(layers, stream(3, "initial", detector.role)))
    last = layout.arrays(detector.network().vector())
    for array in layout.part(holds="weights").entries:
        key = f"{array.layer}.{array.name}"
        assert (first[key] != last[key]).mean() > 0.3, f"{key} hardly moved"


@pytest.mark.parametrize("name", NETWORKS)
def test_seeds_matter(name, train, test, fitted):
    other = made(name).fit(train, seed=4)
    assert not np.allclose(other.decision_function(test), fitted[name].decision_function(test))


def test_a_copy_with_other_settings_keeps_nothing_of_its_original(train, test):
    detector = DETECTORS["pca"](scaling=Scaling(numbers="standard"), share=0.99).fit(train)
    first = detector.decision_function(test)
    other = detector.model_copy(update={"share": 0.3})
    assert not np.allclose(other.decision_function(test), first)
    assert np.array_equal(detector.decision_function(test), first)
