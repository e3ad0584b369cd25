"""Lines of JSON: from standard input, or from a file that grows, is rotated or truncated."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vedette.edge.decoding import Decoder
from vedette.edge.sources.base import Drained, Feed, Source
from vedette.edge.unread import keys_of, tell_unread
from vedette.errors import DataMissing

__all__ = ["LineFeed", "Lines"]

LOOKED_AT = 100
"""First lines that are looked at for fields that nothing reads: lists have none, however many come."""

CHUNK = 2**18
"""Bytes read at once."""
PAUSE = 0.05
"""Seconds between two looks at a file that does not grow."""


class Lines(Source):
    """JSON lines, each a payload.

    Parameters
    ----------
    path
        A file; ``"-"``: standard input.
    follow
        Wait for a file to grow; else it ends where it ends.
    device
        Name of the device where the lines do not say.
    """

    path: str = "-"
    follow: bool = True
    device: str = "device"

    def open(self, decoder: Decoder, position: str = "") -> Feed:
        """Open it; see `Source.open`.

        Raises
        ------
        DataMissing
            There is no such file, and nobody will wait for it.
        """
        left = LOOKED_AT

        def take(line: bytes) -> None:
            nonlocal left
            if left:
                left -= 1
                if names := keys_of(line):
                    left = 0
                    tell_unread(names, decoder, self.device)
            decoder.payload(line, self.device, time.time())

        return LineFeed(self.path, self.follow, decoder, position, take)


class LineFeed(Feed):
    """Lines of a file, or of standard input, each given to somebody.

    Parameters
    ----------
    path, follow
        See `Lines`.
    decoder
        Who makes readings of lines.
    position
        ``"inode:offset"``, where to go on.
    taken
        What gives a line, without its end, to the decoder.

    Raises
    ------
    DataMissing
        There is no such file, and nobody will wait for it.
    """

    def __init__(self, path: str, follow: bool, decoder: Decoder, position: str, taken: Callable[[bytes], None]) -> None:
        self.counts = decoder.counts
        self._decoder, self._taken, self._follow = decoder, taken, follow
        self._path = None if path == "-" else Path(path)
        self._file: int | None = sys.stdin.fileno() if self._path is None else None
        self._inode = self._offset = 0
        self._buffer = b""
        self._over = self._skipping = self._away = False
        if self._path is not None:
            if not follow and not self._path.is_file():
                raise DataMissing(f"there is no file '{path}' to read lines from")
            self._resume(position)

    def drain(self, wait: float, most: int = 65_536) -> Drained | None:
        deadline = time.monotonic() + wait
        while True:
            self._take(most)
            while not self._decoder.pending and self._read(max(0.0, deadline - time.monotonic())):
                self._take(most)
            while self._decoder.pending and self._decoder.pending < most and self._read(0.0):
                self._take(most)
            readings = self._decoder.drained()
            if readings is not None:
                return Drained(readings, "" if self._path is None else f"{self._inode}:{self._offset}")
            left = deadline - time.monotonic()
            if left <= 0 or self._over:
                return None
            if self._path is not None:
                time.sleep(min(left, PAUSE))

    @property
    def ended(self) -> bool:
        return self._over and not self._buffer

    def close(self) -> None:
        if self._file is not None and self._path is not None:
            os.close(self._file)
        self._file = None

    def _take(self, most: int) -> None:
        """Give whole lines to the decoder; the offset follows what was taken."""
        start = 0
        while self._decoder.pending < most:
            end = self._buffer.find(b"\n", start)
            if end < 0:
                break
            if not self._skipping and end > start:
                self._give(self._buffer[start:end])
            self._skipping = False
            self._offset += end + 1 - start
            start = end + 1
        self._buffer = self._buffer[start:]
        if b"\n" in self._buffer:
            return
        if len(self._buffer) > self._decoder.format.most_bytes:
            if not self._skipping:
                self.counts.add("too-large", len(self._buffer))
            self._skipping = True
        if self._skipping or self._over:
            # A line without an end is one only where nothing can follow.
            if not self._skipping and self._buffer:
                self._give(self._buffer)
            self._offset += len(self._buffer)
            self._buffer = b""

    def _give(self, line: bytes) -> None:
        if line := line.strip():
            self._taken(line)

    def _read(self, wait: float) -> bool:
        """Read more into the buffer; return whether there was any."""
        if self._over:
            return False
        if self._path is None:
            return self._read_input(wait)
        if self._file is None and not self._open_path():
            return False
        assert self._file is not None
        data = os.read(self._file, CHUNK)
        if not data:
            data = self._rotated()
        self._buffer += data
        return bool(data)

    def _read_input(self, wait: float) -> bool:
        assert self._file is not None
        if not select.select([self._file], [], [], wait)[0]:
            return False
        data = os.read(self._file, CHUNK)
        self._over = not data
        self._buffer += data
        return True

    def _rotated(self) -> bytes:
        """The file has no more: see whether it was truncated, replaced, or whether that is all."""
        assert self._file is not None
        held = os.fstat(self._file)
        if held.st_size < self._offset + len(self._buffer):
            self.counts.add("truncated", self._path)
            os.lseek(self._file, 0, os.SEEK_SET)
            self._offset, self._buffer, self._skipping = 0, b"", False
            return os.read(self._file, CHUNK)
        if not self._follow:
            self._over = True
            return b""
        try:
            replaced = self._path is not None and self._path.stat().st_ino != self._inode
        except OSError:
            return b""  # between two files, or the folder is away for a while
        if not replaced:
            return b""
        data = os.read(self._file, CHUNK)  # what was written between the last look and the rotation
        if not data:
            if self._buffer:
                self._give(self._buffer)
                self._buffer = b""
            os.close(self._file)
            self._file = None
            self._skipping = False
            self._open_path()
        return data

    def _open_path(self, path: Path | None = None, offset: int = 0) -> bool:
        try:
            self._file = os.open(path or self._path or "", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if not self._away:
                self.counts.add("unreadable", error)
            self._away = True
            return False
        self._away = False
        self._inode, self._offset = os.fstat(self._file).st_ino, offset
        os.lseek(self._file, offset, os.SEEK_SET)
        return True

    def _resume(self, position: str) -> None:
        """Go on where an earlier process stood, also if the file was rotated since."""
        assert self._path is not None
        inode, _, offset = position.partition(":")
        if inode.isdigit() and offset.isdigit():
            for path in (self._path, *sorted(self._path.parent.glob(f"{self._path.name}?*"))):
                try:
                    held = path.stat()
                except OSError:
                    continue
                if held.st_ino == int(inode) and held.st_size >= int(offset) and self._open_path(path, int(offset)):
                    return
            self.counts.add("lost-place", self._path)
        self._open_path()
