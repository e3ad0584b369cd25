"""What holds for the package as a whole: light to import, errors known by their codes, files whole or as they were."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import os
import pkgutil
import re
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field, field_validator
from safetensors.numpy import save

import vedette
from vedette import errors
from vedette.errors import CheckpointError, RecipeError, StorageError, UnknownName, VedetteError
from vedette.files import read_memory, write_atomic, write_memory
from vedette.message import Message, Vector, bytes_of
from vedette.registry import Registry, suggestion
from vedette.seeds import seed_of, stream
from vedette.settings import Settings, build, describe, named, validated

HEAVY = ("torch", "polars", "sklearn", "matplotlib", "scipy", "onnxruntime")
DOCS = Path(__file__).parents[1] / "docs"

# Light to import.


def loaded_by(code: str) -> set[str]:
    """Run code in a process of its own; return which of the heavy packages it loaded."""
    end = f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + end], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


HELP = """
import sys
from vedette.cli import main
for arguments in {arguments}:
    sys.argv = ["vedette", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
"""


@pytest.mark.parametrize(
    "code",
    [
        "import vedette; vedette.__version__",
        "import vedette; vedette.VedetteError",
        "import vedette; list(vedette.strategies.STRATEGIES), list(vedette.detectors.DETECTORS)",
        HELP.format(arguments=[["--help"], ["--version"], ["run", "--help"], ["data", "--help"]]),
        HELP.format(arguments=[["recipes"], ["data", "list"]]),
    ],
    ids=["import", "errors", "names", "help", "listings"],
)
def test_what_only_names_things_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) == set()


def test_a_heavy_package_would_be_noticed() -> None:
    assert loaded_by("import polars") == {"polars"}


def test_every_public_name_is_there() -> None:
    for module in modules():
        for name in getattr(module, "__all__", ()):
            assert getattr(module, name, None) is not None, f"{module.__name__}.{name}"
    with pytest.raises(AttributeError, match="no attribute 'federat'"):
        _ = vedette.federat  # type: ignore[attr-defined]


def modules() -> Iterator[Any]:
    yield vedette
    for found in pkgutil.walk_packages(vedette.__path__, "vedette."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


# Errors.


def kinds() -> list[type[VedetteError]]:
    list(modules())
    found, todo = [VedetteError], [VedetteError]
    while todo:
        below = todo.pop().__subclasses__()
        found, todo = found + below, todo + below
    return [kind for kind in found if kind.__module__.startswith("vedette.")]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in kinds()]
    assert len(set(codes)) == len(codes) == len(errors.__all__)
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", code) for code in codes)
    assert all(kind.__doc__ for kind in kinds())
    assert {kind.__name__ for kind in kinds()} == set(errors.__all__)
    assert {kind.__module__ for kind in kinds()} == {"vedette.errors"}


def test_every_code_has_a_line_in_the_documentation() -> None:
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| *`([a-z-]+)` *\|", text, flags=re.MULTILINE)
    assert len(set(documented)) == len(documented), "a code stands there twice"
    assert set(documented) - {VedetteError.code} == {kind.code for kind in kinds()} - {VedetteError.code}


def test_errors_are_raised_with_a_message() -> None:
    """``raise DataMissing`` or ``raise DataMissing()`` would print an empty line."""
    names = set(errors.__all__)
    for path in Path(vedette.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and node.exc is not None:
                call = node.exc if isinstance(node.exc, ast.Call) else None
                name = call.func if call else node.exc
                if isinstance(name, ast.Name) and name.id in names:
                    assert call is not None, f"{path}:{node.lineno}"
                    assert call.args, f"{path}:{node.lineno}"


# The seed tree.


def test_seeds_are_what_their_path_says() -> None:
    # The path, each step with its type, joined by slashes; the first eight bytes of its SHA-256, the highest first.
    text = "int:7/str:round/int:3/str:node/str:pump-2"
    assert seed_of(7, "round", 3, "node", "pump-2") == int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)
    assert seed_of("ö") == int(hashlib.sha256(b"str:\xc3\xb6").hexdigest()[:16], 16)
    assert np.array_equal(stream(7, "a").random(5), np.random.default_rng(seed_of(7, "a")).random(5))


def test_places_of_the_seed_tree_are_distinct() -> None:
    paths: list[tuple[int | str, ...]] = [(seed, "round", round, phase, "node", node)
        for seed in range(5) for round in range(6) for phase in ("train", "adopt") for node in ("a", "b", "1")]  # fmt: skip
    paths += [(), (1,), ("1",), (1, 2), (12,), ("12",), (1, "2"), ("1", 2), ("1", "2"), (2, 1), ("",), ("", ""), (-1,), (0,), (2**70,)]
    assert len({seed_of(*path) for path in paths}) == len(paths)
    assert all(0 <= seed_of(*path) < 2**64 for path in paths)
    assert np.unique([stream(*path).integers(2**63) for path in paths]).size == len(paths)


# Files: whole, or as they were.


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".part"))


@pytest.mark.parametrize("content", ["", "ünï", b"\x00\xff" * 1000])
def test_a_file_is_written_with_its_folders_and_rights(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "deep" / "er" / "file"
    for mode in (0o644, 0o600):
        write_atomic(path, content, mode)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert os.listdir(path.parent) == ["file"]  # noqa: PTH208 - names, hidden ones too


def test_a_secret_is_never_readable_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(handle).st_mode))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    write_atomic(tmp_path / "key", "secret", 0o600)
    assert seen == [0o600]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_the_old_content(small_disk: Path) -> None:
    path = small_disk / "state"
    write_atomic(path, "old")
    with pytest.raises(StorageError, match=r"cannot write .*state: No space left on device; what was stored before is unchanged"):
        write_atomic(path, b"x" * 100_000)
    assert (path.read_text(), parts(small_disk)) == ("old", [])
    with pytest.raises(StorageError):
        write_memory(path, {"a": np.zeros(100_000)})
    assert (path.read_text(), parts(small_disk)) == ("old", [])
    write_atomic(path, "new")
    assert path.read_text() == "new"


def test_what_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(StorageError, match="cannot write"):
        write_atomic(tmp_path / "file" / "below", "new")  # a file where a folder belongs
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot write"):
        write_atomic(tmp_path / "folder", "new")  # a folder where the file belongs
    with pytest.raises(StorageError, match="cannot write"):
        write_atomic(tmp_path / ("n" * 300), "new")
    with pytest.raises(StorageError, match="cannot write"):
        write_atomic(Path("/proc/vedette/state"), "new")  # nobody may, root neither

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        write_atomic(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert parts(tmp_path) == []


# Stored states, and bytes that only look like one.

MEMORY = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "empty": np.zeros((0, 4)), "count": 2.5, "text": "ünï/\n"}


def stored(folder: Path) -> bytes:
    write_memory(folder / "state", MEMORY, {"schema": "test/1", "nodes": ["a"]})
    return (folder / "state").read_bytes()


def read(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "state").write_bytes(data)
        return read_memory(Path(folder) / "state")


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    memory, about = read(stored(tmp_path))
    assert about == {"schema": "test/1", "nodes": ["a"]}
    assert memory.keys() == MEMORY.keys()
    assert (memory["count"], memory["text"]) == (2.5, "ünï/\n")
    for key in ("weights", "empty"):
        np.testing.assert_array_equal(memory[key], MEMORY[key], strict=True)
    turned = np.arange(6.0).reshape(2, 3).T  # not in the order of memory
    write_memory(tmp_path / "turned", {"turned": turned, "one": np.array(1.0)})
    back = read_memory(tmp_path / "turned")[0]
    np.testing.assert_array_equal(back["turned"], turned, strict=True)
    np.testing.assert_array_equal(back["one"], np.array(1.0), strict=True)


with tempfile.TemporaryDirectory() as _folder:
    STORED = stored(Path(_folder))


def with_header(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def ours(value: Any) -> bytes:
    return save({"a": np.ones(2)}, metadata={"vedette": value if isinstance(value, str) else json.dumps(value)})


FOREIGN = [
    b"", b"\x00" * 8, b"\xff" * 64, with_header("{}"), with_header("[]"), with_header("null"), with_header('{"__metadata__": 5}'),
    with_header('{"__metadata__": {"vedette": 5}}'), struct.pack("<Q", 2**63) + b"{}", with_header("{" * 5000),
    save({"a": np.ones(3)}), save({"a": np.ones(3)}, metadata={"format": "pt"}), save({}), ours("no JSON"), ours([]), ours(5), ours("null"),
    ours({"plain": {}}), ours({"about": {}}), ours({"plain": 5, "about": {}}), ours({"plain": {}, "about": 5}),
    ours({"plain": [1], "about": {}}), ours({"plain": {}, "about": [1]}), ours("[" * 100_000),
]  # fmt: skip


@pytest.mark.parametrize("data", FOREIGN, ids=range(len(FOREIGN)))
def test_files_of_others_are_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="it is damaged or not written by Vedette") as caught:
        read(data)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", tmp_path / "absent" / "deeper"):
        with pytest.raises(CheckpointError, match="cannot read"):
            read_memory(path)


def read_or_refused(data: bytes) -> None:
    """Either a state with all its parts, or a `CheckpointError`; nothing else."""
    try:
        memory, about = read(data)
    except CheckpointError:
        return
    assert isinstance(about, dict)
    assert all(isinstance(key, str) for key in memory)


@settings(derandomize=True, deadline=None, max_examples=len(STORED))
@given(st.integers(0, len(STORED) - 1))
def test_a_state_cut_short_is_refused(length: int) -> None:
    with pytest.raises(CheckpointError):
        read(STORED[:length])


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(st.integers(0, 8 * len(STORED) - 1), min_size=1, max_size=4))
def test_flipped_bits_change_nothing_unnoticed(bits: list[int]) -> None:
    data = bytearray(STORED)
    for bit in set(bits):
        data[bit // 8] ^= 1 << bit % 8
    try:
        found, about = read(bytes(data))
    except CheckpointError:
        return
    # Blanks that pad the header may change; what is read may not.
    kept, said = read(STORED)
    assert about == said
    assert {name: np.asarray(value).tolist() for name, value in found.items()} == {
        name: np.asarray(value).tolist() for name, value in kept.items()
    }


tree = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.binary(max_size=200)
    | st.text(max_size=100).map(with_header)
    | tree.map(lambda value: with_header(json.dumps(value)))
    | tree.map(ours)
)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read_or_refused(data)


# Parts by name, and what is said of wrong ones.


class Inner(Settings):
    """Settings within settings."""

    width: int = Field(default=1, ge=1)
    depth: int = 1


SHAPES: Registry[type[Settings]] = Registry("shape")


@SHAPES.register("round")
class Ball(Settings):
    """A shape."""

    radius: float = Field(default=1.0, gt=0)
    inner: Inner = Inner()
    many: dict[str, Inner] = {}

    @field_validator("radius")
    @classmethod
    def _not_seven(cls, value: float) -> float:
        if value == 7:
            raise ValueError("Seven is taken")
        return value


class Box(Settings):
    """Holds a shape."""

    shape: Annotated[Settings, *named(SHAPES)]


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        ({"radios": 2}, UnknownName, "unknown key 'radios' in [shape]; did you mean 'radius'?"),
        ({"xyz": 2}, UnknownName, "unknown key 'xyz' in [shape]; known: inner, many, radius"),
        ({"inner": {"with": 2}}, UnknownName, "unknown key 'inner.with' in [shape]; did you mean 'width'?"),
        ({"many": {"a": {"dept": 2}}}, UnknownName, "unknown key 'many.a.dept' in [shape]; did you mean 'depth'?"),
        ({"radius": -1}, RecipeError, "[shape] radius: input should be greater than 0 (got -1)"),
        ({"radius": 7}, RecipeError, "[shape] radius: seven is taken (got 7)"),
        ({"inner": {"width": "x" * 500}}, RecipeError, "[shape] inner.width: input should be a valid integer, unable to parse string"),
    ],
)
def test_a_wrong_setting_is_one_line(values: dict[str, Any], kind: type[VedetteError], said: str) -> None:
    with pytest.raises(kind) as caught:
        validated(Ball, values, "[shape]")
    assert str(caught.value).startswith(said)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


def test_parts_are_built_and_described() -> None:
    ball = build(SHAPES, {"name": "round", "radius": 2}, "[shape]")
    assert ball == Ball(radius=2)
    assert build(SHAPES, "round", "[shape]") == Ball()
    assert describe(SHAPES, ball) == {"name": "round", "radius": 2.0, "inner": {"width": 1, "depth": 1}, "many": {}}
    assert build(SHAPES, describe(SHAPES, ball), "") == ball
    for shape in ("round", {"name": "round"}, Ball()):
        box = Box.model_validate({"shape": shape})
        assert box.model_dump()["shape"] == describe(SHAPES, Ball())
    for wrong in ({}, {"radius": 2}, {"name": 3}, {"name": None}):
        with pytest.raises(RecipeError, match=r"^\[shape\]: needs a 'name'; known: round$"):
            build(SHAPES, wrong, "[shape]")
    with pytest.raises(RecipeError, match=r"^\[shape\]: needs a 'name' \(is 'nmae' meant for it\?\); known: round$"):
        build(SHAPES, {"radius": 2, "nmae": "round"}, "[shape]")
    with pytest.raises(UnknownName, match=r"^unknown shape 'rond'; did you mean 'round'\?$"):
        build(SHAPES, "rond", "[shape]")
    with pytest.raises(RecipeError, match=r"^\[shape\] \(round\) radius:"):
        build(SHAPES, {"name": "round", "radius": "wide"}, "[shape]")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Ball().radius = 2  # type: ignore[misc]


def test_a_registry_loads_what_is_asked_for() -> None:
    registry: Registry[object] = Registry("thing", {"here": "vedette.seeds:seed_of", "gone": "vedette.nowhere:nothing"})
    assert (list(registry), len(registry), "gone" in registry, "else" in registry) == (["here", "gone"], 2, True, False)
    assert registry["here"] is seed_of is registry["here"]
    with pytest.raises(ModuleNotFoundError):
        registry["gone"]
    registry.register("mine")(3)
    assert registry["mine"] == 3
    assert registry.get("here") is seed_of
    with pytest.raises(UnknownName, match=r"^unknown thing 'her'; did you mean 'here'\?$"):
        registry["her"]


def test_far_names_are_listed_up_to_a_dozen() -> None:
    assert suggestion("zzz", ["b", "a"]) == "known: a, b"
    assert suggestion("zzz", [f"n{i:02}" for i in range(15)]) == f"known: {', '.join(f'n{i:02}' for i in range(12))} and 3 more"
    assert suggestion("zzz", []) == "known: "


# Bytes that travel.


def test_bytes_of_a_message_are_counted_by_hand() -> None:
    assert bytes_of(Message()) == 0
    vector = Vector(np.zeros(10, dtype=np.float32), "0123456789abcdef")
    assert bytes_of(Message(vectors={"model": vector})) == 10 * 4 + 16
    assert bytes_of(Message(tables={"rows": np.zeros((3, 5), dtype=np.float32), "sketch": np.zeros((2, 7))})) == 3 * 5 * 4 + 2 * 7 * 8
    assert bytes_of(Message(facts={"rows": 100.0, "levels": "abc"})) == (4 + 8) + (6 + 3)
    assert bytes_of(Message({"model": vector}, {"sketch": np.zeros((2, 7))}, {"rows": 1.0})) == 56 + 112 + 12


@example("ö")
@given(st.text(max_size=20))
def test_text_counts_as_the_bytes_it_takes(text: str) -> None:
    assert bytes_of(Message(facts={"levels": text})) == len("levels") + len(text.encode())
