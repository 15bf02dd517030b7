"""The kit's client of the portal, against a real server on the loopback."""

import base64
import json
import logging
import re
import ssl
import stat
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from jobs.kit import cli, client, signin
from jobs.kit.client import Portal, PortalError, Unreachable
from jobs.kit.errors import KitError
from tests import loopback


@pytest.fixture
def site():
    with loopback.serve() as site:
        yield site


@pytest.fixture
def portal(site):
    return Portal(site.portal_url, loopback.TOKEN, backoff_seconds=0)


@pytest.fixture(autouse=True)
def _nobody_signed_in(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("CONSORTIUM_URL", "CONSORTIUM_TOKEN", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_call_sends_the_token(site, portal):
    assert portal.me()["email"] == "steward@example.org"


def test_call_without_a_token_says_how_to_sign_in(site):
    with pytest.raises(PortalError) as caught:
        Portal(site.portal_url).me()
    assert (caught.value.code, caught.value.status, caught.value.exit_code) == ("not_signed_in", 401, 1)
    assert caught.value.fix == f"Run `consortium login --url {site.portal_url}`."


def test_problem_document_becomes_an_error_with_the_way_on(site, portal):
    site.faults["GET me"] = ["agreement_required"]
    with pytest.raises(PortalError) as caught:
        portal.me()
    error = caught.value
    assert (error.code, error.status, error.exit_code) == ("agreement_required", 403, 2)
    assert error.sentence == "Refused for a test."
    assert error.next_url == f"{site.portal_url}/agreement_required/"
    assert str(error) == f"Refused for a test. Go on at {site.portal_url}/agreement_required/"


def test_problem_of_fields_names_them():
    assert client._lines({"title": ["Too long."], "card": {"steps": ["Missing."]}}) == [
        "title: Too long.",
        "steps: Missing.",
    ]


def test_get_is_repeated_after_a_broken_connection_and_503(site, portal):
    site.faults["GET me"] = ["break", "unavailable", "break"]
    assert portal.me()["name"] == "S. Steward"
    assert site.called == ["GET me"] * 4


def test_get_gives_up_after_five_repetitions(site, portal):
    site.faults["GET me"] = ["unavailable"] * 9
    with pytest.raises(PortalError) as caught:
        portal.me()
    assert (caught.value.code, caught.value.exit_code) == ("unavailable", 3)
    assert site.called == ["GET me"] * 6


def test_post_that_is_not_repeatable_is_sent_once(site, portal):
    site.faults["POST contributions"] = ["break", "break"]
    with pytest.raises(Unreachable):
        portal.create_contribution(
            kind="weights", institution="moi", base_model="fundus-64", title="T", training_card={}
        )
    assert site.called == ["POST contributions"]


def test_repeatable_post_is_repeated(site, portal):
    site.contributions[1] = {"id": 1, "status": "draft", "files": []}
    site.faults["POST contributions/1/files"] = ["break", "unavailable"]
    assert portal.add_file(1, name="w", size_bytes=1, parts_sha256="0" * 64)["state"] == "uploading"
    assert site.called == ["POST contributions/1/files"] * 3


def test_a_page_instead_of_json_is_no_portal(site, portal):
    site.faults["GET me"] = ["page"]
    with pytest.raises(KitError) as caught:
        portal.me()
    assert (caught.value.code, caught.value.exit_code) == ("not_a_portal", 3)


def test_nobody_listening_is_unreachable():
    with loopback.serve() as site:
        url = site.portal_url
    with pytest.raises(Unreachable) as caught:
        Portal(url, loopback.TOKEN, backoff_seconds=0).me()
    assert caught.value.exit_code == 3
    assert str(caught.value) == (
        f"{url.removeprefix('http://')} cannot be reached: nothing accepts connections there. "
        "Check the address, the network and HTTP_PROXY."
    )


def test_the_token_goes_to_no_other_host(portal):
    with pytest.raises(KitError, match="another host"):
        portal.request("GET", "https://elsewhere.example/api")


def test_the_token_is_in_no_representation_and_no_log(site, portal, caplog):
    caplog.set_level(logging.DEBUG)
    site.faults["GET me"] = ["break"]
    portal.me()
    shown = repr(portal) + repr(signin.Credentials(site.portal_url, loopback.TOKEN)) + caplog.text
    assert shown.count(loopback.TOKEN) == 0


@pytest.mark.parametrize(
    ("typed", "site_url"),
    [
        ("https://portal.example.org/accounts/login/?next=/", "https://portal.example.org"),
        ("portal.example.org", "https://portal.example.org"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ],
)
def test_portal_takes_the_site_of_an_address(typed, site_url):
    assert Portal(typed).url == site_url


@pytest.mark.parametrize(
    "typed", ["ftp://portal.example.org", "https://", "", "https://[portal.example.org", "https://portal.example:443x"]
)
def test_portal_refuses_what_is_no_web_address(typed):
    with pytest.raises(KitError) as caught:
        Portal(typed)
    assert caught.value.code == "url_invalid"


def test_proxy_of_the_environment_is_used_except_for_no_proxy_and_loopback(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:p%40ss@proxy.hospital:3128")
    monkeypatch.setenv("NO_PROXY", "store.hospital")
    through = client.http("https://portal.example.org")
    assert through.proxy.url == "http://proxy.hospital:3128"
    assert through.proxy_headers == {"proxy-authorization": "Basic dXNlcjpwQHNz"}
    assert client.http("https://store.hospital").proxy is None
    assert client.http("https://127.0.0.1:8000").proxy is None


def test_requests_really_go_through_the_proxy(site, monkeypatch):
    """The loopback portal as a proxy: it sees the whole address of a host that does not exist."""
    monkeypatch.setenv("HTTP_PROXY", site.portal_url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(PortalError) as caught:
        Portal("http://portal.invalid", loopback.TOKEN).me()
    assert caught.value.code == "not_found"
    assert site.called == ["GET http://portal.invalid/api/v1/me"]


def test_socks_proxy_is_refused_with_a_reason(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.hospital:1080")
    with pytest.raises(KitError) as caught:
        client.http("https://portal.example.org")
    assert caught.value.code == "proxy_unusable"


@pytest.mark.parametrize("password", ["pass#word", "pass/word", "pass?word", "pass[word"])
def test_a_password_that_ends_the_address_of_the_proxy_is_told_to_nobody(monkeypatch, password):
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{password}@proxy.hospital:3128")
    with pytest.raises(KitError) as caught:
        client.http("https://portal.example.org")
    assert (caught.value.code, str(caught.value).count("user:")) == ("proxy_unusable", 0)
    assert caught.value.sentence == "The address of the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be read."


def test_a_password_of_a_proxy_is_sent_in_utf_8(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:10€@proxy.hospital:3128")
    header = client.http("https://portal.example.org").proxy_headers["proxy-authorization"]
    assert base64.b64decode(header.removeprefix("Basic ")).decode() == "user:10€"


def authority() -> str:
    """Return a certificate of a hospital's own."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "IT")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(datetime(2026, 1, 1)).not_valid_after(datetime(2036, 1, 1))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.fixture
def site_of_the_future(tmp_path, monkeypatch):
    """A port of this machine with a certificate that is trusted, and not valid before the year 2090."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "IT")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(datetime(2090, 1, 1)).not_valid_after(datetime(2099, 1, 1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = tmp_path / "future.pem"
    unlocked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) + unlocked)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_proxy_that_points_elsewhere_is_named(portal):
    def answered(location):
        return portal.problem(urllib3.HTTPResponse(b"moved", status=302, headers={"Location": location}))

    error = answered("https://login.proxy.hospital/?url=secret")
    assert (error.code, error.exit_code) == ("redirected", 3)
    assert error.sentence == (
        f"{portal.url} was not reached: a proxy, or who stands there now, points to login.proxy.hospital."
    )
    assert answered("/elsewhere").code == "http_302"


@pytest.mark.parametrize("status", [403, 404, 407])
def test_a_page_with_a_refusal_is_no_word_of_the_portal(portal, status):
    """A proxy that blocks the address: nothing of the site's has to be changed."""
    error = portal.problem(urllib3.HTTPResponse(b"<html>Blocked</html>", status=status, reason="No"))
    assert (error.exit_code, error.sentence) == (3, f"{portal.url} answered {status} No.")
    assert error.fix == "Check the address, HTTP_PROXY and NO_PROXY: a proxy may have answered in its place."
    said = urllib3.HTTPResponse(b'{"detail": "Not yours."}', status=403)
    assert portal.problem(said).exit_code == 2


@pytest.mark.parametrize(
    ("host", "is_here"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("localhost", True), ("127.0.0.1.example.org", False)],
)
def test_only_this_machine_is_this_machine(host, is_here):
    """Else a token would go to it without encryption, unasked."""
    assert client.is_loopback(f"http://{host}:8000/x") is is_here


def test_certificate_file_of_the_environment_is_used(monkeypatch, tmp_path):
    bundle = tmp_path / "hospital.pem"
    bundle.write_text(authority())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "of the image.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert client.http("https://portal.example.org").connection_pool_kw["ca_certs"] == str(bundle)
    error = client.unreachable("https://portal.example.org/x", ssl.SSLError("self-signed certificate"))
    assert error.sentence == f"portal.example.org cannot be reached: its certificate is not trusted by {bundle}."
    der = tmp_path / "hospital.cer"
    der.write_bytes(ssl.PEM_cert_to_DER_cert(bundle.read_text()))
    monkeypatch.setenv("SSL_CERT_FILE", str(der))
    with pytest.raises(KitError) as caught:
        client.http("https://portal.example.org")
    assert (caught.value.code, caught.value.sentence) == (
        "certificates_unusable", f"{der} holds no certificate in PEM."
    )  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(KitError) as caught:
        client.http("https://portal.example.org")
    assert caught.value.code == "certificates_missing"


def test_untrusted_certificate_says_how_to_trust_it():
    error = client.unreachable("https://portal.example.org/x?secret", ssl.SSLError("self-signed certificate"))
    assert str(error) == (
        "portal.example.org cannot be reached: its certificate is not trusted here. If your hospital inspects traffic, "
        "set SSL_CERT_FILE to the file of its certificate authority."
    )


def test_a_certificate_that_is_not_valid_yet_points_to_the_clock(site_of_the_future):
    with pytest.raises(client.Unreachable) as caught:
        Portal(site_of_the_future, backoff_seconds=0).me()
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "NOW", caught.value.sentence.partition(": ")[2]) == (
        "its certificate is not valid at the time of this machine, NOW UTC."
    )
    assert caught.value.fix.startswith("Set this machine's clock")


def test_sign_in_waits_for_the_approval(site):
    site.approved_after = 3
    codes = []
    assert signin.sign_in(Portal(site.portal_url), "kit", codes.append) == loopback.TOKEN
    assert [code["user_code"] for code in codes] == ["WDJB-MJHT"]
    assert site.called == ["POST device"] + ["POST device/token"] * 4


def test_sign_in_waits_for_a_portal_that_pauses(site):
    site.faults["POST device/token"] = ["unavailable", "break", "unavailable"]
    assert signin.sign_in(Portal(site.portal_url), "kit", lambda code: None) == loopback.TOKEN


def test_login_asks_nobody_where_the_token_could_not_be_kept(site, tmp_path, capsys):
    (tmp_path / "config").touch()  # a file where its folder should be
    assert cli.main(["login", "--url", site.portal_url, "--json"]) == 1
    assert (json.loads(capsys.readouterr().out)["error"]["code"], site.called) == ("file_unusable", [])


def test_login_keeps_the_token_before_anything_else_can_fail(site):
    site.faults["GET me"] = ["refused"]
    assert cli.main(["login", "--url", site.portal_url]) == 2
    assert signin.saved_credentials().token == loopback.TOKEN


def test_sign_in_ends_when_it_is_denied(site):
    site.faults["POST device/token"] = ["denied"]
    with pytest.raises(PortalError) as caught:
        signin.sign_in(Portal(site.portal_url), "kit", lambda code: None)
    assert caught.value.code == "denied"


def test_credentials_are_for_this_user_alone():
    path = signin.save_credentials(signin.Credentials("https://portal.example.org", "t"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    signin.save_credentials(signin.Credentials("https://portal.example.org", "u"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert signin.saved_credentials().token == "u"


def test_signed_in_takes_the_environment_first(monkeypatch):
    signin.save_credentials(signin.Credentials("https://portal.example.org", "saved"))
    assert (signin.signed_in().url, signin.signed_in()._token) == ("https://portal.example.org", "saved")
    monkeypatch.setenv("CONSORTIUM_TOKEN", "given")
    monkeypatch.setenv("CONSORTIUM_URL", "https://other.example.org")
    assert (signin.signed_in().url, signin.signed_in()._token) == ("https://other.example.org", "given")


def test_a_token_of_the_environment_with_the_end_of_its_line_is_taken(monkeypatch):
    monkeypatch.setenv("CONSORTIUM_URL", "https://portal.example.org")
    monkeypatch.setenv("CONSORTIUM_TOKEN", "given\r\n")
    assert signin.signed_in()._token == "given"


@pytest.mark.parametrize("token", ["se\ncret", "“secret”", "se cret"])
def test_a_token_that_is_none_is_not_quoted(monkeypatch, capsys, token):
    monkeypatch.setenv("CONSORTIUM_URL", "https://portal.example.org")
    monkeypatch.setenv("CONSORTIUM_TOKEN", token)
    assert cli.main(["status", "1", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"]["code"] == "token_malformed"
    assert (shown.out + shown.err).count("cret") == 0


def test_a_saved_token_is_not_for_another_portal(monkeypatch):
    signin.save_credentials(signin.Credentials("https://portal.example.org", "saved"))
    monkeypatch.setenv("CONSORTIUM_URL", "https://other.example.org")
    assert signin.signed_in(required=False)._token == ""
    with pytest.raises(KitError) as caught:
        signin.signed_in()
    assert caught.value.code == "not_signed_in"


def test_damaged_credentials_say_so():
    path = signin.save_credentials(signin.Credentials("https://portal.example.org", "t"))
    path.write_text("{")
    with pytest.raises(KitError) as caught:
        signin.signed_in()
    assert caught.value.code == "credentials_unreadable"
