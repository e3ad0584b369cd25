"""Bundles: a trained detector as a folder of plain files that the base install can score with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from vedette.data.table import Table
from vedette.detectors.base import DETECTORS, Detector
from vedette.detectors.fused import OnnxScore, fused
from vedette.detectors.graph import OnnxNetwork, onnx_of
from vedette.detectors.network import NetworkDetector
from vedette.errors import CheckpointError, DataUnusable, DetectorMisused, MissingExtra, VedetteError
from vedette.files import read_memory, write_atomic, write_memory
from vedette.settings import build, describe
from vedette.training.layout import layout_of
from vedette.training.lowmem.flat import FlatNetwork
from vedette.training.pruning import compacted
from vedette.version import __version__

__all__ = ["ABOUT", "FILES", "LARGEST", "Engine", "Parity", "digest_of", "load_bundle", "load_score", "model_of", "parity", "save_bundle"]

SCHEMA = "vedette.bundle/1"
ABOUT, WEIGHTS, MODEL, SCORE = FILES = "detector.json", "weights.safetensors", "model.onnx", "score.onnx"
MADE_UP = 2048
LIVE_ROWS = 8
"""Rows that NumPy runs through a network at once where memory is what is short."""
LARGEST = 512 * 2**20
"""Bytes of a file; what is larger is no bundle of ours."""

Engine = Literal["onnx", "torch", "numpy"]


def save_bundle(detector: Detector, folder: Path, provenance: Mapping[str, Any] | None = None, model: bytes | None = None) -> None:
    """Write a detector as a bundle, each file whole or not at all, ``detector.json`` last.

    Parameters
    ----------
    detector
        A fitted one.
    folder
        Where to; made if it is not there.
    provenance
        Where it comes from, as JSON: recipe, data, protocol, seed.
    model
        Its network as ONNX, if not simply `model_of` it.

    Raises
    ------
    DetectorMisused
        Not fitted or not calibrated yet, or of a kind that cannot be stored.
    StorageError
        The folder cannot be written.
    MissingExtra
        safetensors or onnx is not installed.
    """
    if not detector.bundled:
        raise DetectorMisused(f"a {type(detector).__name__} cannot be stored: its model is an object of another library, not arrays")
    threshold, scaler = detector.threshold_, detector.scaler
    # What training alone needs stays behind, and so do networks that do not score.
    idle = [role for role in detector.roles if role != detector.role] if isinstance(detector, NetworkDetector) else []
    left = ("optimiser.", "own.sharing.", *(f"{part}.{role}" for role in idle for part in ("network", "layout")))
    kept = {name: value for name, value in detector.memory.items() if not name.startswith(left)}
    write_memory(folder / WEIGHTS, kept)
    files = [WEIGHTS]
    if isinstance(detector, NetworkDetector):
        model = model_of(detector) if model is None else model
        write_atomic(folder / MODEL, model)
        files.append(MODEL)
    whole = _fused(detector, model)
    if whole is not None:
        write_atomic(folder / SCORE, whole)
        files.append(SCORE)
    about = {
        "schema": SCHEMA,
        "vedette": __version__,
        "detector": describe(DETECTORS, detector),
        "features": [{"name": each.name, "kind": each.kind, "unit": each.unit} for each in scaler.features],
        "threshold": threshold,
        "promise": detector.threshold.says,
        "provenance": dict(provenance or {}),
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
    }
    write_atomic(folder / ABOUT, json.dumps(about, indent=1))


def _fused(detector: Detector, model: bytes | None) -> bytes | None:
    try:
        return fused(detector, model)
    except MissingExtra:
        # Detectors without a network are stored, and scored, without onnx too.
        return None


def model_of(detector: NetworkDetector) -> bytes:
    """Return the network of a fitted detector as ONNX: scaled samples in, the network's outputs out; without cut-off neurons."""
    layers, vector, _, _ = compacted(detector.layers, detector.weights_)
    return onnx_of(layers, vector, detector.window.size * detector.scaler.width)


def load_bundle(folder: Path, engine: Engine = "onnx") -> Detector:
    """Read a bundle; nothing in it is executed but the network, and nothing is believed that its files do not bear out.

    Parameters
    ----------
    folder
        With ``detector.json``, ``weights.safetensors``, for networks ``model.onnx``, and perhaps ``score.onnx``.
    engine
        What runs a network: ONNX Runtime, which the base install has; torch, by ``weights.safetensors``; or NumPy, by the same, in the
        least memory (dense networks only).

    Raises
    ------
    CheckpointError
        A file is absent, damaged, too large, of another version, does not match its checksum or the others.
    MissingExtra
        torch is asked for and not installed.
    DetectorMisused
        NumPy is asked for, and the network is no dense one.
    """
    about = _about(folder)
    files = {name: _read(folder / name) for name in about["sha256"]}
    for name, wanted in about["sha256"].items():
        if hashlib.sha256(files[name]).hexdigest() != wanted:
            raise CheckpointError(f"{folder}: {name} does not match its checksum; copy the bundle again")
    memory, _ = read_memory(folder / WEIGHTS)
    unfit = ""
    with _held_together(folder):
        detector = build(DETECTORS, about["detector"], f"{folder / ABOUT}, detector").restore(memory)
        detector.threshold_  # noqa: B018 - says so if there is none
        if detector.scaling != detector.scaler.scaling:
            raise ValueError("it was scaled otherwise than its settings say")
        if isinstance(detector, NetworkDetector):
            layout_of(detector.layers).arrays(detector.weights_)
            if engine == "onnx":
                if MODEL not in files:
                    raise CheckpointError(f"it has no {MODEL}, and only torch and NumPy can do without")
                width = detector.window.size * detector.scaler.width
                detector.run_by(OnnxNetwork(files[MODEL], width, str(folder / MODEL)))
            elif engine == "numpy":
                narrow = compacted(detector.layers, detector.weights_)
                try:
                    network = FlatNetwork(narrow.layers, LIVE_ROWS, whole=True)
                except DetectorMisused as error:
                    unfit = str(error)
                else:
                    network.load(narrow.vector)
                    detector.run_by(network)
    if unfit:
        raise DetectorMisused(f"{folder}: NumPy cannot run its network, the engine 'onnx' can: {unfit}")
    with _held_together(folder):
        # What does not fit together shows when it scores.
        scores = detector.score_samples(np.zeros((1, detector.window.size * detector.scaler.width), dtype=np.float32))
        if scores.shape != (1,):
            raise ValueError(f"one sample got scores of shape {scores.shape}")
    return detector


@contextmanager
def _held_together(folder: Path) -> Iterator[None]:
    """Say of a bundle that its files do not fit together where what is done with them fails."""
    try:
        yield
    except MissingExtra:
        raise
    except VedetteError as error:
        raise CheckpointError(f"the bundle {folder} does not hold together: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise CheckpointError(f"the bundle {folder} does not hold together: {said}") from None


def load_score(folder: Path, detector: Detector) -> OnnxScore | None:
    """Read the graph of a bundle that makes scores of raw values; None if it has none (`vedette.detectors.fused.fused`).

    Parameters
    ----------
    folder
        The bundle.
    detector
        What `load_bundle` made of it: the graph must score as it does.

    Raises
    ------
    CheckpointError
        As `load_bundle`.
    """
    about = _about(folder)
    if SCORE not in about["sha256"]:
        return None
    content = _read(folder / SCORE)
    if hashlib.sha256(content).hexdigest() != about["sha256"][SCORE]:
        raise CheckpointError(f"{folder}: {SCORE} does not match its checksum; copy the bundle again")
    return OnnxScore(content, detector, str(folder / SCORE))


def digest_of(folder: Path) -> str:
    """Return the SHA-256 of a bundle's ``detector.json``, which holds those of its other files.

    Raises
    ------
    CheckpointError
        It cannot be read.
    """
    return hashlib.sha256(_read(folder / ABOUT)).hexdigest()


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads(_read(folder / ABOUT).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {folder / ABOUT}: it is no JSON ({error})") from None
    if not isinstance(about, dict) or not isinstance(about.get("schema"), str):
        raise CheckpointError(f"{folder / ABOUT} is no description of a bundle")
    if about["schema"] != SCHEMA:
        raise CheckpointError(f"{folder}: written in the format '{about['schema']:.60}', this version reads '{SCHEMA}'")
    sums = about.get("sha256")
    if not isinstance(sums, dict) or not {WEIGHTS} <= set(sums) <= {WEIGHTS, MODEL, SCORE} or not isinstance(about.get("detector"), dict):
        raise CheckpointError(f"{folder / ABOUT} does not say which files belong to the bundle, or what it is")
    return about


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise CheckpointError(f"{path}: {size:,} bytes are no bundle of ours")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}; a bundle is a folder with {ABOUT} in it") from None


class Parity(NamedTuple):
    """How far two detectors that should be the same are apart on some rows.

    Attributes
    ----------
    rows
        How many.
    most
        Largest difference of two scores, in units of the threshold.
    changed
        Share of rows on which they disagree.
    """

    rows: int
    most: float
    changed: float


def parity(one: Detector, other: Detector, table: Table | None = None) -> Parity:
    """Compare two detectors on rows; if there are none, on made-up samples, normally distributed once they are scaled.

    Raises
    ------
    DetectorMisused
        The rows have other features.
    DataUnusable
        The table is empty.
    """
    if table is None:
        width = one.window.size * one.scaler.width
        samples = np.random.default_rng(0).normal(size=(MADE_UP, width)).astype(np.float32)
        scores, others = one.score_samples(samples), other.score_samples(samples)
    elif not len(table):
        raise DataUnusable("there are no rows to compare by")
    else:
        scores, others = one.decision_function(table), other.decision_function(table)
    most = float(np.abs(scores - others).max() / one.threshold_)
    return Parity(len(scores), most, float(((scores > one.threshold_) != (others > other.threshold_)).mean()))
