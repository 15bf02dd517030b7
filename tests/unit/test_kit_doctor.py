"""The doctor tells what is wrong with a machine and its network, and what is only worth knowing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jobs.kit import doctor
from jobs.kit.client import Portal
from jobs.kit.findings import FAILS, HOLDS, UNKNOWN

BASES = b'[{"download_url": "/api/v1/base-models/1/download"}]'


@contextmanager
def portal(*, seconds_off: float = 0, store: str = "", refusal: bytes = b"", bases: bytes = BASES) -> Iterator[str]:
    """A portal that knows one base generator, and the store it sends to."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here = f"http://127.0.0.1:{self.server.server_address[1]}"
            if self.path.endswith("/download") and refusal:
                self.send_response(409)
                self.send_header("Content-Length", str(len(refusal)))
                self.end_headers()
                self.wfile.write(refusal)
                return
            if self.path.endswith("/download"):
                self.send_response(302)
                self.send_header("Location", (store or here) + "/object?X-Amz-Signature=secret")
                self.end_headers()
                return
            body = bases if "api" in self.path else b"x"
            self.send_response_only(200)
            self.send_header("Date", formatdate(time.time() + seconds_off, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def found(url: str, folder) -> dict[str, str]:
    findings = doctor.examine(Portal(url, "token", backoff_seconds=0.001) if url else None, folder)
    assert not [finding for finding in findings if "secret" in finding.sentence]
    return {finding.name: finding.verdict for finding in findings}


def test_a_machine_that_is_ready(tmp_path):
    with portal() as url:
        verdicts = found(url, tmp_path)
    assert {name: verdicts[name] for name in ("python", "packages", "portal", "clock", "store")} == dict.fromkeys(
        ("python", "packages", "portal", "clock", "store"), HOLDS
    )


def test_a_clock_that_is_off(tmp_path):
    with portal(seconds_off=600) as url:
        assert found(url, tmp_path)["clock"] == FAILS


def test_a_store_that_the_network_keeps_away(tmp_path):
    with portal(store="http://127.0.0.1:9") as url:
        verdicts = found(url, tmp_path)
    assert (verdicts["portal"], verdicts["store"]) == (HOLDS, FAILS)


def test_a_store_that_the_portal_does_not_open_yet_is_not_called_unreachable(tmp_path):
    refusal = b'{"detail": "Moi has signed no agreement.", "code": "agreement_required", "next_url": "/agreements/"}'
    with portal(refusal=refusal) as url:
        store = doctor.examine(Portal(url, "token"), tmp_path)[-1]
    assert (store.name, store.verdict, store.sentence) == (
        "store",
        UNKNOWN,
        "Not looked at, for the portal gives no address there: Moi has signed no agreement. "
        f"Go on at {url}/agreements/",
    )


def test_a_portal_without_a_base_generator_leaves_the_store_open(tmp_path):
    with portal(bases=b"[]") as url:
        assert found(url, tmp_path)["store"] == UNKNOWN


def test_a_portal_that_does_not_answer(tmp_path):
    verdicts = found("http://127.0.0.1:9", tmp_path)
    assert (verdicts["portal"], "store" in verdicts) == (FAILS, False)


def test_nobody_signed_in(tmp_path):
    assert found("", tmp_path)["portal"] == UNKNOWN


@pytest.mark.parametrize(("free", "verdict"), [(doctor.FREE_BYTES, HOLDS), (doctor.FREE_BYTES - 1, FAILS)])
def test_a_disk_that_is_too_full(tmp_path, monkeypatch, free, verdict):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": free}))
    assert found("", tmp_path)["disk"] == verdict


def test_a_proxy_that_cannot_be_read_is_no_traceback_and_tells_nothing_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret#word@proxy.hospital:3128")
    assert found("", tmp_path)["proxy"] == FAILS
