"""OpenTelemetry metrics over HTTP (OTLP 1.x, protobuf and JSON): an exporter's endpoint is ``http://127.0.0.1:4318``."""

from __future__ import annotations

import gzip
import io
import ssl
import threading
import time
import zlib
from collections import deque
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from vedette.edge.decoding import Decoder
from vedette.edge.sources.base import Drained, Feed, Source
from vedette.edge.sources.metrics import Rates, readings_of
from vedette.edge.sources.protobuf import messages
from vedette.edge.transport import is_loopback, using
from vedette.errors import AddressError

__all__ = ["Otlp", "requests"]

PATIENCE = 5.0
"""Seconds that an exporter waits for its metrics to be stored before it is told to come again."""


@cache
def requests() -> Any:
    """Return the message class ``ExportMetricsServiceRequest``, with the fields that are used here."""
    number = """
        3 time_unix_nano fixed64
    """
    return messages(
        "vedette.otlp",
        {
            "AnyValue": "1 string_value string\n2 bool_value bool\n3 int_value int64\n4 double_value double",
            "KeyValue": "1 key string\n2 value AnyValue",
            "Resource": "1 attributes KeyValue*",
            "NumberPoint": number + "4 as_double double\n6 as_int sfixed64\n7 attributes KeyValue*\n8 flags uint32",
            "HistogramPoint": number + "4 count fixed64\n5 sum double\n9 attributes KeyValue*\n10 flags uint32",
            "SummaryPoint": number + "4 count fixed64\n5 sum double\n7 attributes KeyValue*\n8 flags uint32",
            "Gauge": "1 data_points NumberPoint*",
            "Sum": "1 data_points NumberPoint*\n2 aggregation_temporality int32\n3 is_monotonic bool",
            "Histogram": "1 data_points HistogramPoint*\n2 aggregation_temporality int32",
            "Summary": "1 data_points SummaryPoint*",
            "Metric": "1 name string\n5 gauge Gauge\n7 sum Sum\n9 histogram Histogram\n11 summary Summary",
            "ScopeMetrics": "2 metrics Metric*",
            "ResourceMetrics": "1 resource Resource\n2 scope_metrics ScopeMetrics*",
            "Request": "1 resource_metrics ResourceMetrics*",
        },
    )["Request"]


class Otlp(Source):
    """A listener for OTLP/HTTP metrics at ``/v1/metrics``.

    A feature is a metric's name, with its attributes in the order of their names where it has some:
    ``"system.memory.usage{state=used}"``. Of histograms and summaries it is the name with ``.count`` or ``.sum``.

    Parameters
    ----------
    address
        Host and port to listen at; port 0: any free one.
    device
        Attributes of a resource that may name the device; the first that it has counts.
    rates
        Sums that only grow are rates a second; else as they are.
    together
        Points of a resource whose times lie within so many seconds are one reading.
    certificate, key
        PEM files for TLS; needed off loopback unless `insecure`.
    insecure
        Listen off loopback without TLS.
    queue
        Bytes that may wait; exporters are told to come again beyond that.
    """

    address: str = "127.0.0.1:4318"
    device: tuple[str, ...] = ("host.name", "service.instance.id", "service.name")
    rates: bool = True
    together: float = Field(default=1.0, ge=0)
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False
    queue: int = Field(default=32 * 2**20, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> Otlp:
        host, colon, port = self.address.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:
            raise ValueError("'address' must be HOST:PORT")
        if self.certificate is None and not self.insecure and not is_loopback(host):
            raise ValueError("listening off loopback needs 'certificate' and 'key' for TLS, or 'insecure = true'")
        return self

    def open(self, decoder: Decoder, position: str = "") -> Listener:
        """Open it; see `Source.open`.

        Raises
        ------
        AddressError
            The address is taken or not this machine's.
        KeysError
            The certificate cannot be used.
        """
        return Listener(self, decoder)

    def context(self) -> ssl.SSLContext | None:
        """Return what TLS is made with; None: there is none.

        Raises
        ------
        KeysError
            A file is not there or not what it should be.
        """
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with using(self.certificate, self.key):
            context.load_cert_chain(self.certificate, self.key)
        return context


class _Batch(NamedTuple):
    data: bytes
    json: bool
    at: float
    stored: threading.Event


class Listener(Feed):
    """An open `Otlp` source.

    Attributes
    ----------
    port
        Where it listens.
    """

    def __init__(self, source: Otlp, decoder: Decoder) -> None:
        self.counts = decoder.counts
        self._source, self._decoder = source, decoder
        self._pending: deque[_Batch] = deque()
        self._bytes = 0
        self._drained: list[_Batch] = []
        self._some = threading.Condition()
        self._rates = Rates()
        host, _, port = source.address.rpartition(":")
        context = source.context()
        try:
            self._server = _Server((host.strip("[]"), int(port)), _handler(self, decoder.format.most_bytes))
        except OSError as error:
            raise AddressError(f"cannot listen at {source.address} ({error.strerror or error}): set another source.address") from None
        self._server.context = context
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="otlp", daemon=True)
        self._thread.start()

    def drain(self, wait: float, most: int = 65_536) -> Drained | None:
        deadline = time.monotonic() + wait
        while True:
            with self._some:
                self._some.wait_for(lambda: bool(self._pending), max(0.0, deadline - time.monotonic()))
            while self._decoder.pending < most:
                with self._some:
                    if not self._pending:
                        break
                    batch = self._pending.popleft()
                    self._bytes -= len(batch.data)
                self._drained.append(batch)
                self._read(batch)
            readings = self._decoder.drained()
            if readings is not None:
                return Drained(readings, "")
            self.settle()  # nothing of it needs to be stored
            if time.monotonic() >= deadline:
                return None

    def settle(self) -> None:
        for batch in self._drained:
            batch.stored.set()
        self._drained.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def offer(self, data: bytes, json: bool) -> threading.Event | None:
        """Take the body of a request; return what is set once it is stored, None if too much waits."""
        batch = _Batch(data, json, time.time(), threading.Event())
        with self._some:
            if self._bytes and self._bytes + len(data) > self._source.queue:
                return None
            self._pending.append(batch)
            self._bytes += len(data)
            self._some.notify()
        return batch.stored

    def _read(self, batch: _Batch) -> None:
        try:
            if batch.json:
                from google.protobuf import json_format

                request = json_format.Parse(batch.data, requests()(), ignore_unknown_fields=True, max_recursion_depth=32)
            else:
                request = requests().FromString(batch.data)
        except Exception as error:  # the library's own errors, whose module is loaded only here
            self.counts.add("garbage", error)
            return
        rates = self._rates if self._source.rates else None
        wanted = {self._decoder.format.fields.get(name, name) for name in self._decoder.names}
        for device, moment, values in readings_of(request, self._source.device, wanted, rates, self._source.together):
            self._decoder.add(values, device or "", batch.at, moment)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    context: ssl.SSLContext | None = None

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        connection.settimeout(10.0)
        if self.context is not None:
            # The handshake is made by the connection's own thread, so that nobody can hold up the others with it.
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a connection that breaks is not worth a traceback."""


def _handler(listener: Listener, most: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "vedette", ""

        def do_POST(self) -> None:
            kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            length = self.headers.get("Content-Length", "")
            if self.path != "/v1/metrics":
                self._answer(404)
            elif kind not in ("application/x-protobuf", "application/json"):
                self._answer(415)
            elif not length.isascii() or not length.isdigit():
                self._answer(411)
            elif int(length) > most:
                listener.counts.add("too-large", int(length))
                self._answer(413)
            else:
                self._take(self.rfile.read(int(length)), kind)

        def _take(self, data: bytes, kind: str) -> None:
            if self.headers.get("Content-Encoding", "").lower() == "gzip":
                try:
                    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                        data = file.read(most + 1)
                except (OSError, EOFError, zlib.error):
                    listener.counts.add("garbage", data[:80])
                    self._answer(400)
                    return
                if len(data) > most:
                    listener.counts.add("too-large", len(data))
                    self._answer(413)
                    return
            stored = listener.offer(data, kind == "application/json")
            if stored is None or not stored.wait(PATIENCE):
                self._answer(503)  # it comes again; what was taken after all is known by its time then
            else:
                self._answer(200, kind)

        def _answer(self, status: int, kind: str = "") -> None:
            body = b"{}" if kind == "application/json" else b""
            self.send_response(status)
            if status == 503:
                self.send_header("Retry-After", "1")
            if kind:
                self.send_header("Content-Type", kind)
            if status != 200:
                # The body may not have been read.
                self.send_header("Connection", "close")
                self.close_connection = True
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: what is wrong is counted."""

    return Handler
