"""Files written whole or not at all, and states as safetensors."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from vedette.errors import CheckpointError, StorageError
from vedette.message import Array, Memory

__all__ = ["read_memory", "write_atomic", "write_memory"]

_META = "vedette"


def write_atomic(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file so that readers see the old content or the new one, never a part.

    Parameters
    ----------
    path
        Where; missing folders above it are made.
    content
        Text (UTF-8) or bytes.
    mode
        Permission bits; secrets use ``0o600``.

    Raises
    ------
    StorageError
        The disk is full or the place not writable; the old file, if any, is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; what was stored before is unchanged, "
            "free some space or choose another folder with --out"
        ) from None


def write_memory(path: Path, memory: Memory, about: Mapping[str, Any] | None = None, mode: int = 0o644) -> None:
    """Write a party's state atomically as one safetensors file; numbers and text go into its JSON header.

    Parameters
    ----------
    path
        Where to.
    memory
        Arrays, numbers and text by name.
    about
        Further JSON for the header.
    mode
        See `write_atomic`.

    Raises
    ------
    StorageError
        See `write_atomic`.
    """
    arrays = {key: np.asarray(value, order="C") for key, value in memory.items() if isinstance(value, np.ndarray)}
    plain = {key: value for key, value in memory.items() if not isinstance(value, np.ndarray)}
    header = json.dumps({"plain": plain, "about": dict(about or {}), "sha256": _checksum(arrays, plain, about or {})}, sort_keys=True)
    write_atomic(path, safetensors.numpy.save(arrays, metadata={_META: header}), mode)


def read_memory(path: Path) -> tuple[dict[str, Array | float | str], dict[str, Any]]:
    """Read what `write_memory` wrote: the state and the further JSON.

    Raises
    ------
    CheckpointError
        The file is absent, damaged or not ours.
    """
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            header = json.loads((file.metadata() or {})[_META])
            memory: dict[str, Array | float | str] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        plain, about = dict(header["plain"]), dict(header["about"])
        if header["sha256"] != _checksum(memory, plain, about):
            raise ValueError("its content does not match its checksum")
        return {**memory, **plain}, about
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"cannot read {path}: {str(error) or type(error).__name__}; it is damaged or not written by Vedette"
        ) from None


def _checksum(arrays: Mapping[str, Any], plain: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Hash names, kinds, shapes and bytes, so that no flipped bit goes unnoticed."""
    found = hashlib.sha256(json.dumps([plain, about], sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()
