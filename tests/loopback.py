"""
A portal and an object store on two ports of the loopback, for the kit's own tests: real sockets, memory behind them.

The store verifies what SeaweedFS verifies (the signed checksum of a part, the age of an address), and can be told to
fail as networks do. The kit against the real portal and the real store is tests/integration's.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

TOKEN = "secret-token-of-the-steward"
SIGNATURE = "X-Amz-Signature=secret-signature"
CHUNK = 64 * 1024


class Site:
    """What both servers share. Tests fill `faults` and read `seen`."""

    def __init__(self, part_size_bytes: int) -> None:
        self.part_size_bytes = part_size_bytes
        self.contributions: dict[int, dict[str, Any]] = {}
        self.parts: dict[int, bytes] = {}  # number -> bytes that arrived whole
        self.objects: dict[str, bytes] = {}  # name of a release's file -> bytes
        self.base_models: list[dict[str, Any]] = []
        self.accepted: list[dict[str, Any]] = []
        self.faults: dict[str, list[str]] = {}  # "PUT 2", "GET model.bin", "POST submit" -> one fault for each attempt
        self.seen: list[tuple[str, str, dict[str, str]]] = []  # of the store: method, path, headers
        self.called: list[str] = []  # of the portal: method and path
        self.checks: list[dict[str, Any]] = []  # the result of submitting
        self.final_status = "review"
        self.answers: dict[str, Any] = {}  # what else a contribution has after its checks
        self.page_size = 100
        self.approved_after = 1  # polls of the device code
        self.expires_in_seconds = 900
        self.portal_url = self.store_url = ""
        self.lock = threading.Lock()

    def fault(self, key: str) -> str:
        with self.lock:
            waiting = self.faults.get(key, [])
            return waiting.pop(0) if waiting else ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *_: object) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        """Close the socket in the middle."""
        self.close_connection = True
        self.connection.close()


class StoreHandler(Handler):
    def do_PUT(self) -> None:
        number = int(urlsplit(self.path).path.rpartition("/")[2])
        self.site.seen.append(("PUT", self.path, dict(self.headers)))
        fault = self.site.fault(f"PUT {number}")
        if fault == "break":
            self.rfile.read(int(self.headers["Content-Length"]) // 2)
            return self.hang_up()
        body = self.body()
        if fault == "expired":
            return self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        if fault == "unavailable":
            return self.answer(503, b"<Error><Code>SlowDown</Code></Error>")
        if fault == "gone":
            return self.answer(404, b"<Error><Code>NoSuchUpload</Code></Error>")
        if base64.b64encode(hashlib.sha256(body).digest()).decode() != self.headers["x-amz-checksum-sha256"]:
            return self.answer(400, b"<Error><Code>XAmzContentChecksumMismatch</Code></Error>")
        self.site.parts[number] = body
        self.answer(200)

    def do_GET(self) -> None:
        name = urlsplit(self.path).path.rpartition("/")[2]
        self.site.seen.append(("GET", self.path, dict(self.headers)))
        fault, content = self.site.fault(f"GET {name}"), self.site.objects[name]
        if fault == "expired":
            return self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        if fault == "page":
            return self.answer(200, b"<html>Sign in to the hospital's proxy</html>", Content_Type="text/html")
        start = 0 if fault == "no ranges" else int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
        if fault == "break":
            self.send_response(206)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : start + (len(content) - start) // 2])
            self.wfile.flush()
            return self.hang_up()
        content = b"\0" * len(content) if fault == "damage" else content
        self.answer(200 if fault == "no ranges" else 206, content[start:])


class PortalHandler(Handler):
    def do_GET(self) -> None:
        self.route("GET")

    def do_POST(self) -> None:
        self.route("POST")

    def do_PATCH(self) -> None:
        self.route("PATCH")

    def json(self, status: int, document: object) -> None:
        self.answer(status, json.dumps(document).encode(), Content_Type="application/json")

    def problem(self, status: int, code: str, detail: str, next_url: str = "", **more: object) -> None:
        self.json(
            status, {"title": "Problem", "status": status, "code": code, "detail": detail, "next_url": next_url, **more}
        )

    def route(self, method: str) -> None:
        path = self.path.partition("?")[0].removeprefix("/api/v1/")
        self.site.called.append(f"{method} {path}")
        body = self.body()
        fault = self.site.fault(f"{method} {path}")
        if fault == "break":
            return self.hang_up()
        if fault == "unavailable":
            return self.problem(503, "unavailable", "Back in a minute.")
        if fault == "page":
            return self.answer(200, b"<html>Sign in to the hospital's proxy</html>")
        if fault:
            return self.problem(403, fault, "Refused for a test.", next_url=f"/{fault}/")
        if not path.startswith("device") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.problem(401, "not_signed_in", "Sign in.")
        given = json.loads(body) if body else {}
        for pattern, action in ROUTES.items():
            if match := re.fullmatch(pattern, f"{method} {path}"):
                return action(self, given, *match.groups())
        self.problem(404, "not_found", "There is no such object, or you may not see it.")

    def device(self, given: dict[str, Any]) -> None:
        code = {
            "device_code": "d",
            "user_code": "WDJB-MJHT",
            "verification_url": f"{self.site.portal_url}/account/device",
        }
        self.json(201, {**code, "interval_seconds": 0, "expires_in_seconds": 600})

    def device_token(self, given: dict[str, Any]) -> None:
        self.site.approved_after -= 1
        if self.site.approved_after >= 0:
            return self.problem(400, "authorization_pending", "Nobody has approved the code yet.")
        self.json(200, {"token": TOKEN})

    def me(self, given: dict[str, Any]) -> None:
        site = {"slug": "moi-eye-clinic", "name": "Moi Eye Clinic", "roles": ["steward"]}
        self.json(200, {"email": "steward@example.org", "name": "S. Steward", "institutions": [site]})

    def list_contributions(self, given: dict[str, Any]) -> None:
        before = int(dict(parse_qsl(urlsplit(self.path).query)).get("before", 10**9))
        older = [row for pk, row in sorted(self.site.contributions.items(), reverse=True) if pk < before]
        page = older[: self.site.page_size]
        following = f"{self.site.portal_url}/api/v1/contributions?before={page[-1]['id']}" if page else None
        self.json(200, {"results": page, "next": following if older[len(page) :] else None})

    def create(self, given: dict[str, Any]) -> None:
        pk = len(self.site.contributions) + 1
        row = {
            **given,
            "title": given["title"].strip(),  # as the portal keeps it
            "id": pk,
            "status": "draft",
            "files": [],
            "checks": [],
            "url": f"{self.site.portal_url}/contributions/{pk}/",
        }
        self.site.contributions[pk] = row
        self.json(201, row)

    def show(self, given: dict[str, Any], pk: str) -> None:
        row = self.site.contributions.get(int(pk))
        if row is None:
            return self.problem(404, "not_found", "There is no such object, or you may not see it.")
        self.json(200, row)
        if row["status"] == "submitted":  # a worker finishes between two questions
            row.update(status=self.site.final_status, checks=self.site.checks, **self.site.answers)

    def change(self, given: dict[str, Any], pk: str) -> None:
        self.site.contributions[int(pk)].update(given)
        self.json(200, self.site.contributions[int(pk)])

    def add_file(self, given: dict[str, Any], pk: str) -> None:
        files = self.site.contributions[int(pk)]["files"]
        if not files:
            count = max(1, -(-given["size_bytes"] // self.site.part_size_bytes))
            sizes = {"part_size_bytes": self.site.part_size_bytes, "part_count": count}
            files.append({**given, "id": 7, "state": "uploading", **sizes})
        self.file(given, pk)

    def file(self, given: dict[str, Any], pk: str, file_id: str = "7") -> None:
        self.json(200, {**self.site.contributions[int(pk)]["files"][0], "parts_uploaded": sorted(self.site.parts)})

    def sign(self, given: dict[str, Any], pk: str) -> None:
        urls = [
            {
                "number": part["number"],
                "url": f"{self.site.store_url}/quarantine/{part['number']}?{SIGNATURE}",
                "headers": {"x-amz-checksum-sha256": part["sha256"]},
            }
            for part in given["parts"]
        ]
        self.json(200, {"urls": urls, "expires_in_seconds": self.site.expires_in_seconds})

    def complete(self, given: dict[str, Any], pk: str) -> None:
        file = self.site.contributions[int(pk)]["files"][0]
        whole = b"".join(self.site.parts[number] for number in sorted(self.site.parts))
        if len(self.site.parts) < file["part_count"] or hashlib.sha256(whole).hexdigest() != given["sha256"]:
            return self.problem(409, "parts_missing", "Parts have not arrived.")
        file |= {"state": "uploaded", "sha256": given["sha256"]}
        self.file(given, pk)

    def submit(self, given: dict[str, Any], pk: str) -> None:
        self.site.contributions[int(pk)]["status"] = "submitted"
        self.json(200, self.site.contributions[int(pk)])

    def models(self, given: dict[str, Any]) -> None:
        sums = "".join(
            f"{hashlib.sha256(data).hexdigest()}  {name}\n"
            for name, data in self.site.objects.items()
            if name != "SHA256SUMS"
        )
        self.site.objects.setdefault("SHA256SUMS", sums.encode())
        files = [
            {
                "name": name,
                "size_bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "url": f"/dl/grf-1/{name}",
            }
            for name, data in self.site.objects.items()
        ]
        licence = {
            "spdx": "CC-BY-NC-4.0",
            "sha256": "a" * 64,
            "title": "Licence",
            "url": f"{self.site.portal_url}/models/licences/CC-BY-NC-4.0",
        }
        release = {"slug": "grf-1", "name": "GRF", "version": "1", "licence": licence, "files": files}
        self.json(200, [{**release, "accepted": bool(self.site.accepted)}])

    def list_base_models(self, given: dict[str, Any]) -> None:
        self.json(200, self.site.base_models)

    def accept(self, given: dict[str, Any], slug: str) -> None:
        self.site.accepted.append(given)
        self.json(201, {"release": slug})

    def redirect(self, given: dict[str, Any], name: str) -> None:
        self.answer(307, Location=f"{self.site.store_url}/releases/{name}?{SIGNATURE}")


ROUTES = {
    r"POST device": PortalHandler.device,
    r"POST device/token": PortalHandler.device_token,
    r"GET me": PortalHandler.me,
    r"GET contributions": PortalHandler.list_contributions,
    r"POST contributions": PortalHandler.create,
    r"GET contributions/(\d+)": PortalHandler.show,
    r"PATCH contributions/(\d+)": PortalHandler.change,
    r"POST contributions/(\d+)/files": PortalHandler.add_file,
    r"GET contributions/(\d+)/files/(\d+)": PortalHandler.file,
    r"POST contributions/(\d+)/files/7/parts": PortalHandler.sign,
    r"POST contributions/(\d+)/files/7/complete": PortalHandler.complete,
    r"POST contributions/(\d+)/submit": PortalHandler.submit,
    r"GET base-models": PortalHandler.list_base_models,
    r"GET models": PortalHandler.models,
    r"POST models/([a-z0-9-]+)/accept": PortalHandler.accept,
    r"GET /dl/grf-1/(.+)": PortalHandler.redirect,
}


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news here."""


@contextmanager
def serve(part_size_bytes: int = 256 * 1024) -> Iterator[Site]:
    """Run both servers while the block runs."""
    site = Site(part_size_bytes)
    servers = [
        Server(("127.0.0.1", 0), type(kind.__name__, (kind,), {"site": site})) for kind in (PortalHandler, StoreHandler)
    ]
    site.portal_url, site.store_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield site
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
