"""A bundle at a web address: what is new comes whole or not at all, and what is wrong there changes nothing here."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listening import until

from vedette.detectors import Pca
from vedette.detectors.bundle import digest_of, load_bundle, save_bundle
from vedette.edge.agent import Agent
from vedette.edge.mirror import BundleUrl, Mirror
from vedette.edge.sources.lines import Lines
from vedette.edge.watch import Watch
from vedette.errors import CheckpointError, RecipeError


class _Handler(SimpleHTTPRequestHandler):
    """Hands out a folder, with tags."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization", "")))  # type: ignore[attr-defined]
        path = Path(self.translate_path(self.path))
        if self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", "/bundle/detector.json")
            self.end_headers()
            return
        if path.is_file() and self.headers.get("If-None-Match") == self.tag(path):
            self.send_response(304)
            self.end_headers()
            return
        super().do_GET()

    @staticmethod
    def tag(path: Path) -> str:
        return f'"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"'

    def end_headers(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_file():
            self.send_header("ETag", self.tag(path))
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path, list[tuple[str, str]]]]:
    """Its address, its folder, and what it was asked."""
    (tmp_path / "web").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(tmp_path / "web")))
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", tmp_path / "web", server.asked  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


def published(folder: Path, seed: int) -> str:
    save_bundle(Pca(scaling={"numbers": "standard"}).fit(np.random.default_rng(seed).normal(size=(200, 4))), folder)
    return digest_of(folder)


def test_a_bundle_is_fetched_once_and_again_when_it_changes(web: tuple[str, Path, list[tuple[str, str]]], tmp_path: Path) -> None:
    address, folder, asked = web
    first = published(folder / "bundle", 0)
    (tmp_path / "token").write_text("hush\n")
    (tmp_path / "token").chmod(0o600)
    mirror = Mirror(BundleUrl(url=f"{address}/bundle/", token_file=tmp_path / "token", every=3600), tmp_path / "here")
    try:
        assert digest_of(tmp_path / "here") == first
        load_bundle(tmp_path / "here")
        count = len(asked)
        assert {token for _, token in asked} == {"Bearer hush"}
        assert not mirror.fetch()
        assert [path for path, _ in asked[count:]] == ["/bundle/detector.json"]
        second = published(folder / "bundle", 1)
        assert mirror.fetch()
        assert digest_of(tmp_path / "here") == second != first
    finally:
        mirror.close()


def test_what_is_wrong_there_changes_nothing_here(web: tuple[str, Path, list[tuple[str, str]]], tmp_path: Path) -> None:
    address, folder, _ = web
    first = published(folder / "bundle", 0)
    mirror = Mirror(BundleUrl(url=f"{address}/bundle", every=3600), tmp_path / "here")
    try:
        published(folder / "bundle", 1)
        weights = folder / "bundle" / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        with pytest.raises(CheckpointError, match="does not match its checksum"):
            mirror.fetch()
        assert digest_of(tmp_path / "here") == first
        about = json.loads((folder / "bundle" / "detector.json").read_text())
        for wrong, why in (
            (json.dumps({**about, "sha256": {"../../evil": "0"}}), "names a file that no bundle has"),
            (json.dumps({**about, "sha256": [1]}), "is none of a bundle"),
            ("[" * 100_000, "is none of a bundle"),
        ):
            (folder / "bundle" / "detector.json").write_text(wrong)
            with pytest.raises(CheckpointError, match=why):
                mirror.fetch()
        (folder / "bundle" / "detector.json").unlink()
        with pytest.raises(CheckpointError, match="status 404"):
            mirror.fetch()
        assert digest_of(tmp_path / "here") == first
    finally:
        mirror.close()
    # What is there is gone on with; where nothing is, it is said.
    again = Mirror(BundleUrl(url=f"{address}/bundle"), tmp_path / "here")
    again.close()
    with pytest.raises(CheckpointError, match=r"cannot get .*status 404"):
        Mirror(BundleUrl(url=f"{address}/bundle"), tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="say that as the URL"):
        Mirror(BundleUrl(url=f"{address}/elsewhere"), tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"Connection refused|Cannot assign|unreachable"):
        Mirror(BundleUrl(url="http://[::1]:1/pumps"), tmp_path / "nowhere")  # loopback too, and nobody is there
    with pytest.raises(RecipeError, match="without TLS"):
        Mirror(BundleUrl(url="http://models.plant/pumps"), tmp_path / "nowhere")


def test_an_agent_puts_what_is_new_there_on_trial(web: tuple[str, Path, list[tuple[str, str]]], tmp_path: Path) -> None:
    address, folder, _ = web
    first = published(folder / "bundle", 0)
    (tmp_path / "lines.jsonl").touch()
    watch = Watch(source=Lines(path=str(tmp_path / "lines.jsonl"), follow=False), bundle=BundleUrl(url=f"{address}/bundle", every=1))
    agent = Agent(watch, tmp_path / "state")
    try:
        assert agent.status.model == first
        published(folder / "bundle", 1)

        def looked() -> bool:
            agent._look()
            return agent.status.phase == "shadow"

        until(looked)
    finally:
        agent.close(0)
    with pytest.raises(RecipeError, match="said twice"):
        Agent(watch, tmp_path / "other", folder / "bundle")
    # A server that is away does not keep a sentry from its work.
    shutil.rmtree(folder / "bundle")
    agent = Agent(watch, tmp_path / "state")
    assert agent.status.model == digest_of(tmp_path / "state" / "fetched")
    agent.close(0)
