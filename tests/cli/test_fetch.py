"""`vedette data fetch` from a server that breaks off, sends other things, or knows nothing of ranges."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import resource
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from commands import refused, vedette

from samples import skab_lines
from vedette.data import published as facts
from vedette.data.datasets.kdd99 import Kdd99

TEXT = b"0,tcp,http,SF,1,normal.\n" * 40_000
SENT = gzip.compress(TEXT, mtime=0)


class Server(BaseHTTPRequestHandler):
    """Sends what `files` holds; `breaks` says after how many bytes an answer ends, one after the other.

    `ranges`: True as they should be, False not at all, "elsewhere" sends another place than was asked for, "never" knows no range at all.
    """

    files: ClassVar[dict[str, bytes]] = {}
    breaks: ClassVar[list[int]] = []
    ranges: ClassVar[bool | str] = True
    asked: ClassVar[list[tuple[str, str | None]]] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append((self.path, wanted))
        if self.path not in self.files:
            self.send_error(404, "Not Found")
            return
        content, first = self.files[self.path], 0
        if self.ranges == "never":
            self.send_error(416)
            return
        if wanted and self.ranges is True:
            first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
            if first >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        elsewhere = wanted and self.ranges == "elsewhere"
        self.send_response(206 if first or elsewhere else 200)
        if first or elsewhere:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        if self.path.endswith(".gz"):
            self.send_header("Content-Encoding", "x-gzip")  # as some servers say of files that are gzip'ed anyway
        self.end_headers()
        stop = self.breaks.pop(0) if self.breaks else None
        self.wfile.write(content[first:stop])
        if stop is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Listening(ThreadingHTTPServer):
    """Says nothing of clients that go away."""

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in {"files": {}, "breaks": [], "ranges": True, "asked": []}.items():
        monkeypatch.setattr(Server, name, value)
    listening = Listening(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def known(server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, object]]:
    """KDD99 as this server gives it out."""
    files: dict[str, dict[str, object]] = {
        "kddcup.data_10_percent": {
            "from": "10.gz", "bytes": len(TEXT), "sha256": hashlib.sha256(TEXT).hexdigest(), "served": hashlib.sha256(SENT).hexdigest(),
        },
        "corrected": {"from": "corrected.gz", "bytes": len(TEXT), "sha256": hashlib.sha256(TEXT).hexdigest()},
    }  # fmt: skip
    monkeypatch.setattr(
        facts, "_known", lambda: {"kdd99": {"base": f"{server}/kdd/", "files": files}, "skab": {"base": f"{server}/", "files": {}}}
    )
    Server.files.update({"/kdd/10.gz": SENT, "/kdd/corrected.gz": SENT})
    return files


def fetched(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files as they are."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


BOTH = {"kdd99/kddcup.data_10_percent.gz": SENT, "kdd99/corrected.gz": SENT}


def test_files_are_fetched_once_and_lie_where_the_loader_looks(tmp_path: Path, known: object) -> None:
    first = vedette("data", "fetch", "kdd99", "--data", tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert "2 files fetched, 0 were here" in first.stdout
    assert "licence:" in first.stdout
    assert fetched(tmp_path) == BOTH
    assert Kdd99.is_here(tmp_path)
    again = json.loads(vedette("data", "fetch", "kdd99", "--data", tmp_path, "--json").stdout)
    assert again["schema"] == "vedette.data-fetch/1"
    assert [(file["new"], file["checked"]) for file in again["files"]] == [(False, True)] * 2
    assert len(Server.asked) == 2


def test_a_broken_connection_is_made_anew_and_goes_on(tmp_path: Path, known: object) -> None:
    Server.breaks += [100, 300]
    assert vedette("data", "fetch", "kdd99", "--data", tmp_path).returncode == 0
    assert Server.asked[:3] == [("/kdd/10.gz", None), ("/kdd/10.gz", "bytes=100-"), ("/kdd/10.gz", "bytes=300-")]
    assert fetched(tmp_path) == BOTH


def test_what_came_is_kept_and_the_next_command_goes_on(tmp_path: Path, known: object) -> None:
    Server.breaks += [100, 150, 200]
    said = refused("data", "fetch", "kdd99", "--data", tmp_path)
    assert "200 bytes are kept and the same command goes on from there" in said
    assert fetched(tmp_path) == {"kdd99/kddcup.data_10_percent.gz.part": SENT[:200]}
    assert vedette("data", "fetch", "kdd99", "--data", tmp_path).returncode == 0
    assert Server.asked[3] == ("/kdd/10.gz", "bytes=200-")
    assert fetched(tmp_path) == BOTH


@pytest.mark.parametrize("left", [SENT[:77], SENT, SENT + b"more"])
@pytest.mark.parametrize("ranges", [True, False, "elsewhere"])
def test_any_beginning_is_dealt_with(tmp_path: Path, known: object, left: bytes, ranges: bool | str) -> None:
    Server.ranges = ranges
    lay(tmp_path, {"kdd99/kddcup.data_10_percent.gz.part": left})
    assert vedette("data", "fetch", "kdd99", "--data", tmp_path).returncode == 0
    assert fetched(tmp_path) == BOTH


@pytest.mark.parametrize("path", ["/kdd/10.gz", "/kdd/corrected.gz"])
@pytest.mark.parametrize("other", [b"<html>Please log in</html>", gzip.compress(TEXT.replace(b"SF", b"S0", 1), mtime=0)])
def test_another_file_under_its_name_is_not_kept(tmp_path: Path, known: object, path: str, other: bytes) -> None:
    Server.files[path] = other
    said = refused("data", "fetch", "kdd99", "--data", tmp_path)
    assert "not the file that was published" in said
    assert "[data-broken]" in said
    if path == "/kdd/10.gz":
        assert hashlib.sha256(other).hexdigest() in said
        assert hashlib.sha256(SENT).hexdigest() in said
    assert set(fetched(tmp_path).values()) <= {SENT}


def test_gzip_headers_may_differ_where_only_the_text_is_known(tmp_path: Path, known: object) -> None:
    Server.files["/kdd/corrected.gz"] = gzip.compress(TEXT, compresslevel=1, mtime=1)
    assert vedette("data", "fetch", "kdd99", "--data", tmp_path).returncode == 0


def test_a_file_that_is_here_and_wrong_is_never_written_over(tmp_path: Path, known: object) -> None:
    lay(tmp_path, {"kdd99/corrected": b"mine"})
    assert "remove it" in refused("data", "fetch", "kdd99", "--data", tmp_path)
    assert (tmp_path / "kdd99" / "corrected").read_bytes() == b"mine"


def test_a_mirror_holds_the_same_names_and_the_checksums_hold(tmp_path: Path, server: str, known: dict[str, dict[str, object]]) -> None:
    Server.files.update({"/m/kddcup.data_10_percent.gz": SENT, "/m/corrected.gz": SENT})
    assert vedette("data", "fetch", "kdd99", "--data", tmp_path / "a", "--from", f"{server}/m/").returncode == 0
    folder = lay(tmp_path / "mirror", {"kddcup.data_10_percent.gz": SENT, "corrected.gz": SENT})
    assert vedette("data", "fetch", "kdd99", "--data", tmp_path / "b", "--from", folder).returncode == 0
    assert vedette("data", "fetch", "kdd99", "--data", tmp_path / "e", "--from", folder.as_uri()).returncode == 0
    assert fetched(tmp_path / "a") == fetched(tmp_path / "b") == fetched(tmp_path / "e") == BOTH
    lay(folder, {"corrected.gz": b"other"})
    assert "not the file" in refused("data", "fetch", "kdd99", "--data", tmp_path / "c", "--from", folder)
    assert "there is no file" in refused("data", "fetch", "kdd99", "--data", tmp_path / "d", "--from", tmp_path / "nowhere")


TWO = ("valve1/0.csv", "other/1.csv")
ROWS = skab_lines().encode()


@pytest.fixture
def unpinned(server: str, known: object, monkeypatch: pytest.MonkeyPatch) -> str:
    """A server with two files of SKAB of which no checksum is known."""
    monkeypatch.setattr("vedette.data.datasets.skab.Skab.official_files", TWO)
    Server.files.update({f"/{name}": ROWS for name in TWO})
    return server


def test_a_file_without_a_published_checksum_is_noted_and_must_stay_the_same(tmp_path: Path, unpinned: str) -> None:
    first = vedette("data", "fetch", "skab", "--data", tmp_path, "--from", unpinned)
    assert first.returncode == 0, first.stderr
    assert "2 of them have no published checksum" in first.stdout
    digest, folder = hashlib.sha256(ROWS).hexdigest(), tmp_path / "skab"
    assert f"{digest}  {folder / TWO[0]}\n" in first.stdout
    assert (folder / "SHA256SUMS").read_text() == "".join(f"{digest}  {name}\n" for name in TWO)
    again = json.loads(vedette("data", "fetch", "skab", "--data", tmp_path, "--from", unpinned, "--json").stdout)
    assert [(file["new"], file["checked"], file["sha256"]) for file in again["files"]] == [(False, False, digest)] * 2

    (folder / TWO[0]).unlink()
    Server.files[f"/{TWO[0]}"] = b"other"
    said = refused("data", "fetch", "skab", "--data", tmp_path, "--from", unpinned)
    assert digest in said
    assert "fetched first" in said
    assert not (folder / TWO[0]).exists()
    lay(folder, {TWO[0]: b"mine"})
    assert "fetched first" in refused("data", "fetch", "skab", "--data", tmp_path, "--from", unpinned)
    assert (folder / TWO[0]).read_bytes() == b"mine"


@pytest.mark.parametrize("ranges", [True, "elsewhere"])
def test_files_that_nothing_can_tell_apart_are_never_pieced_together(tmp_path: Path, unpinned: str, ranges: bool | str) -> None:
    lay(tmp_path, {f"skab/{TWO[0]}.part": b"of another mirror"})
    Server.ranges, Server.breaks[:] = ranges, [50]
    assert vedette("data", "fetch", "skab", "--data", tmp_path, "--from", unpinned).returncode == 0
    assert Server.asked[:2] == [(f"/{TWO[0]}", None), (f"/{TWO[0]}", "bytes=50-")]
    assert (tmp_path / "skab" / TWO[0]).read_bytes() == ROWS


def test_what_cannot_be_reached_is_said(tmp_path: Path, server: str, known: object) -> None:
    del Server.files["/kdd/10.gz"]
    assert "the server answers 404 Not Found" in refused("data", "fetch", "kdd99", "--data", tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
        said = refused("data", "fetch", "kdd99", "--data", tmp_path, "--from", nobody)
    assert "no connection" in said
    assert "secret" not in said
    Server.ranges = "never"
    Server.files["/kdd/10.gz"] = SENT
    assert "the server answers 416" in refused("data", "fetch", "kdd99", "--data", tmp_path)
    assert fetched(tmp_path) == {}


@pytest.mark.parametrize(
    "mirror",
    ["ftp://user:secret@127.0.0.1/x", "http://user:secret@/x", "http://user:secret@[x/", "http://secret:x@h:y/", "file://secret/x"],
)
def test_an_address_that_cannot_be_one_is_refused_and_not_repeated(tmp_path: Path, known: object, mirror: str) -> None:
    said = refused("data", "fetch", "kdd99", "--data", tmp_path, "--from", mirror)
    assert "--from" in said
    assert "secret" not in said
    assert fetched(tmp_path) == {}


def test_without_pooch_the_extra_is_named(tmp_path: Path, known: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert "pip install 'vedette[train]'" in refused("data", "fetch", "kdd99", "--data", tmp_path)


def test_no_room_left_is_said_and_what_came_is_kept(tmp_path: Path, known: object) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        said = refused("data", "fetch", "kdd99", "--data", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in said
    assert "[storage]" in said
    assert fetched(tmp_path) == {"kdd99/kddcup.data_10_percent.gz.part": SENT[:1000]}
    assert vedette("data", "fetch", "kdd99", "--data", tmp_path).returncode == 0
    assert fetched(tmp_path) == BOTH


def test_a_person_is_told_the_steps_where_no_command_may_fetch(tmp_path: Path) -> None:
    done = vedette("data", "fetch", "swat", "--data", tmp_path)
    assert done.returncode == 1
    assert "itrust" in done.stdout
    assert str(tmp_path / "swat") in done.stdout
    assert f"vedette data check {tmp_path}" in done.stdout
    assert json.loads(vedette("data", "fetch", "swat", "--data", tmp_path, "--json").stdout)["steps"]


def test_what_is_nothing_to_fetch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VEDETTE_DATA", raising=False)
    assert "generated" in refused("data", "fetch", "simulated", "--data", tmp_path)
    assert "did you mean 'kdd99'" in refused("data", "fetch", "kdd9", "--data", tmp_path)
    assert "VEDETTE_DATA" in refused("data", "fetch", "kdd99")


def test_a_copy_that_was_packed_again_is_the_same_file(tmp_path: Path, known: object) -> None:
    again = gzip.compress(TEXT, compresslevel=1, mtime=7)
    folder = lay(tmp_path / "mirror", {"kddcup.data_10_percent.gz": again, "corrected.gz": again})
    assert vedette("data", "fetch", "kdd99", "--data", tmp_path / "data", "--from", folder).returncode == 0
