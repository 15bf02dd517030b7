"""
The portal as the kit sees it: each call of its API. Who is signed in is signin.py's.

Proxies come from HTTPS_PROXY, HTTP_PROXY and NO_PROXY, a private certificate authority from SSL_CERT_FILE, else from
REQUESTS_CA_BUNDLE. Tokens and presigned addresses never reach a message, a log or an exception's text.
"""

import functools
import ipaddress
import json
import logging
import os
import re
import ssl
from collections.abc import Iterator
from time import gmtime, strftime
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from . import __version__
from .errors import KitError

API = "/api/v1/"
CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
RETRIES = 5
RETRY_AFTER_MAX_SECONDS = 60
SEND_BLOCK_BYTES = 512 * 1024  # of the socket; urllib3's own 16 KiB costs many times the CPU (bench_sink.py)
USER_AGENT = f"consortium-kit/{__version__}"
PLATFORM_FAULT = 3  # exit status: not the site's doing, try again
NOT_VALID_NOW = {9, 10}  # of a certificate: X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL
OF_A_PROXY = "Check the address, {}_PROXY and NO_PROXY: a proxy may have answered in its place."
NEEDS_CHANGES = 2  # exit status: the portal refused, something has to be changed

Document = dict[str, Any]

# Its DEBUG lines hold whole addresses, and a presigned address is a key to the file.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


class PortalError(KitError):
    """The portal answered with a problem document (RFC 9457); `code` is its code, `next_url` where to go on."""

    default_code = "portal_refused"

    def __init__(
        self, sentence: str, *, status: int, code: str = "", next_url: str = "", fix: str = "", exit_code: int = 1
    ) -> None:
        super().__init__(sentence, code=code, fix=fix, exit_code=exit_code)
        self.status = status
        self.next_url = next_url


class Unreachable(KitError):
    """No answer came: the network, a proxy, a certificate or the server."""

    default_code = "unreachable"


# The network


def http(url: str) -> urllib3.PoolManager:
    """
    Return the connections that lead to `url`: through the proxy of the environment, unless NO_PROXY names the host.

    Raises:
        KitError: the environment names a proxy or a certificate file that cannot be used.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    direct = is_loopback(url) or proxy_bypass(parts.netloc.rpartition("@")[2])
    proxy = "" if direct else proxies.get(parts.scheme) or proxies.get("all") or ""
    return _connections(proxy, certificates())


def certificates() -> str:
    """Return the file of a private certificate authority, empty without one; an image may bring REQUESTS_CA_BUNDLE."""
    return os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or ""


def is_loopback(url: str) -> bool:
    """Test if the address is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


@functools.cache
def _connections(proxy: str, certificates: str) -> urllib3.PoolManager:
    settings: dict[str, Any] = {
        "maxsize": 8,
        "blocksize": SEND_BLOCK_BYTES,
        "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
    }
    if certificates:
        if not os.path.exists(certificates):
            raise KitError(
                f"The certificate file {certificates} does not exist.",
                code="certificates_missing",
                fix="Correct REQUESTS_CA_BUNDLE or SSL_CERT_FILE.",
            )
        if os.path.isfile(certificates):
            _require_pem(certificates)
        settings["ca_cert_dir" if os.path.isdir(certificates) else "ca_certs"] = certificates
    if not proxy:
        return urllib3.PoolManager(**settings)
    parts = proxy_parts(proxy)
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode().decode("latin-1")  # UTF-8, sent
        settings["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=login)
    return urllib3.ProxyManager(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", **settings)


def proxy_parts(proxy: str) -> SplitResult:
    """
    Take the address of a proxy apart.

    Raises:
        KitError: it cannot be used; nothing of it is told: a "#" in its password makes a piece of that the host.
    """
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        rest = parts.path.strip("/") + parts.query + parts.fragment
        is_whole = bool(parts.hostname) and parts.port != 0 and not rest
    except ValueError:
        parts, is_whole = SplitResult("http", "", "", "", ""), False
    if parts.scheme not in {"http", "https"}:
        fix = "Give an http proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY."
        raise KitError(f"A {parts.scheme} proxy cannot be used.", code="proxy_unusable", fix=fix)
    if not is_whole:
        sentence = "The address of the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be read."
        fix = "Write http://USER:PASSWORD@HOST:PORT, with %23 for # in the password, %2F for /, %3F for ?, %5B for [."
        raise KitError(sentence, code="proxy_unusable", fix=fix)
    return parts


def _require_pem(certificates: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificates)
    except ssl.SSLError:
        raise KitError(
            f"{certificates} holds no certificate in PEM.",
            code="certificates_unusable",
            fix=f"A .cer or .der file is turned into PEM by: openssl x509 -inform der -in {certificates} -out ca.pem",
        ) from None


def unreachable(url: str, error: Exception) -> Unreachable:
    """Return the sentence for a failed connection; of the address it tells the host only."""
    cause = getattr(error, "reason", None) or error
    host, proxy = urlsplit(url).netloc.rpartition("@")[2], f"{urlsplit(url).scheme.upper()}_PROXY"
    if isinstance(cause, urllib3.exceptions.ProxyError):
        what, fix = "the proxy did not let us through", f"Check {proxy} and NO_PROXY."
    elif any(getattr(one, "verify_code", 0) in NOT_VALID_NOW for one in (cause, *cause.args)):
        what = strftime("its certificate is not valid at the time of this machine, %Y-%m-%d %H:%M UTC", gmtime())
        fix = "Set this machine's clock; where it is right, the certificate has run out: tell who runs the host."
    elif isinstance(cause, urllib3.exceptions.SSLError | ssl.SSLError):
        used = certificates()
        what = f"its certificate is not trusted by {used}" if used else "its certificate is not trusted here"
        fix = "If your hospital inspects traffic, set SSL_CERT_FILE to the file of its certificate authority."
    elif isinstance(cause, urllib3.exceptions.NameResolutionError):
        what, fix = "the name is not known", f"Check the address, the VPN and {proxy}."
    elif isinstance(cause, urllib3.exceptions.NewConnectionError):  # which calls itself a timeout, too
        what, fix = "nothing accepts connections there", f"Check the address, the network and {proxy}."
    elif isinstance(cause, urllib3.exceptions.TimeoutError):
        what, fix = "it did not answer in time", f"Check the network and {proxy}, then try again."
    else:
        what, fix = "the connection broke off", f"Check the network and {proxy}, then try again."
    return Unreachable(f"{host} cannot be reached: {what}.", fix=fix, exit_code=PLATFORM_FAULT)


# The API


class Portal:
    """
    One portal, as one person.

    Args:
        url: of the site, for instance https://portal.example.org.
        token: from sign_in(); empty for what everyone may see.
        backoff_seconds: of the first repetition; doubles each time, with as much jitter again.
    """

    def __init__(self, url: str, token: str = "", *, backoff_seconds: float = 0.5) -> None:
        self.url = site_of(url)
        self.backoff_seconds = backoff_seconds
        if not re.fullmatch(r"[!-~]*", token):  # http.client would quote it in its error
            fix = "Copy it again, or log in again with `consortium login`."
            raise KitError("The token holds a sign that no token has.", code="token_malformed", fix=fix)
        self._token = token

    def __repr__(self) -> str:
        return f"Portal({self.url!r})"

    def absolute(self, path: str) -> str:
        """Return the whole address of a path the portal gave."""
        return urljoin(f"{self.url}/", path)

    def call(self, method: str, path: str, body: object = None, *, repeatable: bool | None = None) -> Any:
        """
        Call the API and return the JSON of its answer.

        Args:
            path: below /api/v1/.
            repeatable: doing it twice is the same as once, so a broken connection or a 502, 503, 504 is tried again;
                by default GET only. A connection that was never made is always tried again.
        Raises:
            PortalError: the portal refused.
            Unreachable: it did not answer.
        """
        headers = {"Accept": "application/json, application/problem+json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        return self.read(self.request(method, API + path, headers=headers, body=data, repeatable=repeatable))

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        repeatable: bool | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request to the portal itself, with the token; redirections are returned, never followed."""
        url = self.absolute(path)
        if not url.startswith(f"{self.url}/"):
            raise KitError("The portal named another host where its own was due.", code="not_a_portal")
        headers = {"User-Agent": USER_AGENT, **(headers or {})}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        retries = self._retries(method == "GET" if repeatable is None else repeatable)
        try:
            return http(url).request(method, url, body=body, headers=headers, retries=retries, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(url, error) from None

    def _retries(self, repeatable: bool) -> urllib3.Retry:
        return urllib3.Retry(
            total=RETRIES,
            allowed_methods=None if repeatable else frozenset({"GET"}),  # None: every method
            status_forcelist=(502, 503, 504),
            raise_on_status=False,
            backoff_factor=self.backoff_seconds,
            backoff_jitter=self.backoff_seconds,
            retry_after_max=RETRY_AFTER_MAX_SECONDS,
        )

    def read(self, response: urllib3.BaseHTTPResponse) -> Any:
        """Return the JSON of an answer, or raise what it says was wrong."""
        if response.status >= 300:
            raise self.problem(response)
        try:
            return json.loads(response.data) if response.data else None
        except ValueError:
            raise KitError(
                f"{self.url} does not answer as a consortium portal does.",
                code="not_a_portal",
                fix="Check the address; behind a proxy, sign in to the proxy first.",
                exit_code=PLATFORM_FAULT,
            ) from None

    def problem(self, response: urllib3.BaseHTTPResponse) -> PortalError:
        """Turn an answer that is not a success into the error to raise."""
        status = response.status
        try:
            body = json.loads(response.data)
            body = body if isinstance(body, dict) else {}
        except ValueError:
            body = {}
        sentence = str(body.get("detail") or body.get("title") or f"{self.url} answered {status} {response.reason}.")
        sentence = " ".join([sentence, *_lines(body.get("errors"))])
        next_url = str(body.get("next_url") or "")
        next_url = self.absolute(next_url) if next_url else ""
        code = str(body.get("code") or f"http_{status}")
        location = response.headers.get("Location", "")
        elsewhere = urlsplit(urljoin(self.url, location)).hostname if 300 <= status < 400 and location else None
        if elsewhere not in (None, urlsplit(self.url).hostname):
            sentence = f"{self.url} was not reached: a proxy, or who stands there now, points to {elsewhere}."
            fix = "Sign in to the proxy, or ask IT to open the portal's address; if the portal moved, log in there."
            return PortalError(sentence, status=status, code="redirected", fix=fix, exit_code=PLATFORM_FAULT)
        is_foreign = not body and 400 <= status < 500 and status != 401
        fault = is_foreign or status >= 500 or status in {407, 408, 429}
        exit_code = PLATFORM_FAULT if fault else 1 if status == 401 else NEEDS_CHANGES
        scheme = urlsplit(self.url).scheme.upper()
        fix = OF_A_PROXY.format(scheme) if is_foreign else self._way_on(status, next_url, location)
        return PortalError(sentence, status=status, code=code, next_url=next_url, fix=fix, exit_code=exit_code)

    def _way_on(self, status: int, next_url: str, location: str) -> str:
        if next_url:
            return f"Go on at {next_url}"
        if status == 401:
            return f"Run `consortium login --url {self.url}`."
        if 300 <= status < 400:
            moved = urljoin(self.url, urlsplit(location)._replace(query="").geturl())
            return f"The portal has moved: log in at {moved}"
        return "Try again in a few minutes." if status >= 500 or status == 429 else ""

    # Who

    def begin_device_login(self, client_name: str) -> Document:
        return self.call("POST", "device", {"client_name": client_name})

    def redeem_device_login(self, device_code: str) -> str:
        return str(self.call("POST", "device/token", {"device_code": device_code})["token"])

    def me(self) -> Document:
        return self.call("GET", "me")

    # Contributions

    def contributions(self) -> Iterator[Document]:
        """Yield what the person may see, the newest first, page after page."""
        query: str | None = ""
        while query is not None:
            page = self.call("GET", f"contributions{query}")
            yield from page["results"]
            query = f"?{urlsplit(page['next']).query}" if page["next"] else None

    def contribution(self, contribution_id: int) -> Document:
        return self.call("GET", f"contributions/{contribution_id}")

    def create_contribution(
        self, *, kind: str, institution: str, base_model: str, title: str, training_card: Document, **more: str
    ) -> Document:
        body = {"kind": kind, "institution": institution, "base_model": base_model, "title": title, **more}
        return self.call("POST", "contributions", {**body, "training_card": training_card})

    def change_contribution(
        self, contribution_id: int, *, title: str, training_card: Document, **more: str
    ) -> Document:
        """Change a draft; of `more` (embargo_until), what is left out stays as it is."""
        body = {"title": title, "training_card": training_card, **more}
        return self.call("PATCH", f"contributions/{contribution_id}", body, repeatable=True)

    def submit(self, contribution_id: int) -> Document:
        return self.call("POST", f"contributions/{contribution_id}/submit", {})

    def attest(self, contribution_id: int, kind: str, envelope: Document) -> Document:
        return self.call("PUT", f"contributions/{contribution_id}/attestations/{kind}", envelope, repeatable=True)

    # Files of a contribution; see transfer.py

    def add_file(self, contribution_id: int, *, name: str, size_bytes: int, parts_sha256: str) -> Document:
        body = {"name": name, "size_bytes": size_bytes, "parts_sha256": parts_sha256}
        return self.call("POST", f"contributions/{contribution_id}/files", body, repeatable=True)

    def file(self, contribution_id: int, file_id: int) -> Document:
        return self.call("GET", f"contributions/{contribution_id}/files/{file_id}")

    def sign_parts(self, contribution_id: int, file_id: int, parts: list[Document]) -> Document:
        path = f"contributions/{contribution_id}/files/{file_id}/parts"
        return self.call("POST", path, {"parts": parts}, repeatable=True)

    def complete_file(self, contribution_id: int, file_id: int, *, sha256: str) -> Document:
        path = f"contributions/{contribution_id}/files/{file_id}/complete"
        return self.call("POST", path, {"sha256": sha256}, repeatable=True)

    # Base generators and releases

    def base_models(self) -> list[Document]:
        return self.call("GET", "base-models")

    def models(self) -> list[Document]:
        return self.call("GET", "models")

    def accept_licence(
        self, slug: str, *, licence_sha256: str, typed_name: str, purpose: str, institution: str
    ) -> Document:
        body = {"licence_sha256": licence_sha256, "typed_name": typed_name, "purpose": purpose}
        return self.call("POST", f"models/{slug}/accept", {**body, "institution": institution})


def site_of(url: str) -> str:
    """Return scheme and host of an address that a person typed."""
    try:
        parts = urlsplit(url.strip() if "://" in url else f"https://{url.strip()}")
        is_site = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_site = False
    if not is_site:
        raise KitError(f"{url} is not a web address.", code="url_invalid", fix="Give it as https://portal.example.org")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _lines(errors: object, field: str = "") -> list[str]:
    """Flatten the field errors of a problem document into sentences."""
    if isinstance(errors, dict):
        return [line for key, value in errors.items() for line in _lines(value, str(key))]
    if isinstance(errors, list):
        return [line for value in errors for line in _lines(value, field)]
    return [f"{field}: {errors}" if field else str(errors)] if errors else []
