"""The command `consortium`: what it prints, what it writes, how it ends."""

import csv
import errno
import hashlib
import json
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import SafetensorError

from jobs.kit import cli, cli_portal, prepare, terminal
from tests import loopback

BASE = Path(cli.__file__).parent / "base" / "fundus-64"
FULL = Path("/dev/full")
pytestmark = pytest.mark.usefixtures("nobody_signed_in")


# The command itself


def test_help_lists_the_commands_and_loads_nothing_heavy():
    code = (
        "import sys; from jobs.kit.cli import main; status = main(['--help']);"
        "print(status, sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'torch', 'diffusers', 'transformers', 'sklearn', 'numpy', 'PIL', 'django', 'celery'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    commands = [line.split()[0] for line in lines[lines.index("Commands:") + 1 : -1]]
    expected = (
        "audit base check contribute convert doctor download fit keys login models prepare privacy receipt sample"
    )
    assert commands == [*expected.split(), "sign", "status"]
    assert lines[-1] == "0 []"


def test_version_is_the_packages(capsys):
    from jobs.kit import __version__

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"consortium-kit, version {__version__}\n"


@pytest.mark.parametrize(
    "typed", [[], ["contribute"], ["nonsense"], ["check"], ["check", "no/such/file"], ["fit", ".", "--steps", "0"]]
)
def test_wrong_usage_ends_with_64_and_a_hint(typed, capsys):
    assert cli.main(typed) == 64
    assert capsys.readouterr().err.startswith("Usage: consortium")


def test_wrong_usage_is_json_where_json_was_asked(capsys):
    assert cli.main(["fit", "--json"]) == 64
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert (error["code"], error["sentence"]) == ("usage", "Missing argument 'FOLDER'.")
    assert err.startswith("Usage: consortium")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (OSError(errno.ENOSPC, "", "/data/x"), "no_room", "/data/x cannot be used: No space left on device."),
        (PermissionError(errno.EACCES, "", "/data/x"), "not_allowed", "/data/x cannot be used: Permission denied."),
        (OSError(errno.EIO, ""), "file_unusable", "A file or folder cannot be used: Input/output error."),
        (SafetensorError('I/O error: (os error 28) at path "/data/.tmp1"'), "no_room",
         "/data cannot be used: No space left on device."),
    ],
)  # fmt: skip
def test_what_the_disk_refuses_is_not_the_platforms_fault(monkeypatch, error, code, sentence, capsys):
    def refuse(**_):
        raise error

    monkeypatch.setattr(cli_portal.signin, "signed_in", refuse)
    assert cli.main(["models", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)["error"]
    assert (shown["code"], shown["sentence"]) == (code, sentence)


@pytest.mark.parametrize("error", [ConnectionResetError(errno.ECONNRESET, ""), socket.gaierror(-2, "unknown name"),
                                   ssl.SSLError(1, "no certificate"), OSError(errno.ENETUNREACH, "")])  # fmt: skip
def test_what_the_network_refuses_is_no_file(monkeypatch, error, capsys):
    def refuse(**_):
        raise error

    monkeypatch.setattr(cli_portal.signin, "signed_in", refuse)
    assert cli.main(["models", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "unexpected"


def test_unexpected_errors_are_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(cli_portal.signin, "signed_in", lambda **_: 1 / 0)
    assert cli.main(["models"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "Error: Something unexpected happened (ZeroDivisionError: division by zero). Set CONSORTIUM_DEBUG=1 and run it "
        "again to see where, and tell the consortium."
    ]


def test_an_error_that_cannot_be_printed_is_no_traceback():
    typed = [sys.executable, "-m", "jobs.kit.cli", "doctor", "--json"]
    with FULL.open("wb") as full:
        shown = subprocess.run(typed, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        silent = subprocess.run(typed, stdout=full, stderr=full, check=False)
    sentence = "Error: A file or folder cannot be used: No space left on device. Make room there, then run it again.\n"
    assert (shown.returncode, shown.stderr, silent.returncode) == (1, sentence, 1)


def test_what_is_no_number_is_never_printed_as_json(capsys):
    with pytest.raises(ValueError, match="not JSON compliant"):
        terminal.print_json({"loss": float("nan")})
    assert capsys.readouterr().out == ""


def test_interruption_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_portal.signin, "signed_in", interrupt)
    assert cli.main(["models"]) == 130
    assert capsys.readouterr().err.strip() == "Stopped. Run the same command again to go on."
    assert cli.main(["models", "--json"]) == 130
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["fix"]) == ("interrupted", "Run the same command again to go on.")


def test_interruption_of_a_command_that_begins_anew_says_so(tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "prepare", interrupt)
    assert cli.main(["prepare", str(tmp_path), "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err.strip() == "Stopped. Nothing is prepared yet; the same command begins anew."


def test_errors_are_json_where_json_was_asked(capsys):
    assert cli.main(["models", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "not_signed_in"
    assert sorted(error) == ["code", "fix", "next_url", "sentence"]


# login


def test_login_shows_the_code_and_keeps_the_token(site, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("CONSORTIUM_URL")
    monkeypatch.delenv("CONSORTIUM_TOKEN")
    assert cli.main(["login", "--url", site.portal_url]) == 0
    path = tmp_path / "config" / "consortium" / "credentials.json"
    out, err = capsys.readouterr()
    assert err.splitlines()[:2] == [f"Open {site.portal_url}/account/device", "and enter the code   WDJB-MJHT"]
    assert out.splitlines() == [
        f"Signed in to {site.portal_url} as steward@example.org. The token is in {path}, readable by you alone.",
        "  moi-eye-clinic  Moi Eye Clinic (steward)",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (out + err).count(loopback.TOKEN) == 0
    assert cli.main(["models"]) == 0


def test_login_says_what_goes_before_the_token_that_it_saved(site, capsys):
    assert cli.main(["login", "--url", site.portal_url, "--json"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == (
        "CONSORTIUM_URL and CONSORTIUM_TOKEN in your environment go before what was saved now: unset them to use it."
    )


def test_login_refuses_an_unencrypted_portal_elsewhere(capsys):
    assert cli.main(["login", "--url", "http://portal.invalid"]) == 1
    assert capsys.readouterr().err.startswith("Error: http://portal.invalid is not encrypted")


# base, models and download


def test_base_fetches_what_the_programme_checks_by_and_never_over_another(site, tmp_path, capsys):
    content, folder = b"weights", tmp_path / "derm"
    site.objects["derm-32"] = content
    row = {"slug": "derm-32", "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": 7, "licence": "MIT",
           "download_url": "/dl/grf-1/derm-32"}  # fmt: skip
    site.base_models = [
        {**row, "id": 1, "version": "1.0.0", "config": {"checks_run": [1]}},
        {**row, "id": 2, "version": "1.1.0", "config": {"checks_run": [1, 9], "reference": {"sha256": "0"}}},
    ]
    assert cli.main(["base", "derm-32", "--version", "1.0.0", "--out", str(folder)]) == 0
    assert json.loads((folder / "config.json").read_text()) == {"checks_run": [1]}
    assert cli.main(["base", "derm-32", "--out", str(folder)]) == 0
    assert json.loads((folder / "config.json").read_text())["checks_run"] == [1, 9]
    assert (folder / "model.safetensors").read_bytes() == content
    assert [path for _, path, _ in site.seen if "derm-32" in path][1:] == []  # whole already: not fetched again
    assert "Its public reference stays at the centre" in capsys.readouterr().err
    for change in (
        lambda: (folder / "model.safetensors").write_bytes(b"mine"),
        (folder / "model.safetensors").unlink,  # leaves the config.json of who knows what
    ):
        change()
        assert cli.main(["base", "derm-32", "--out", str(folder), "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["error"]["code"] == "out_not_empty"
    assert cli.main(["base", "derm-64", "--out", str(folder)]) == 1
    told = "Error: The portal has no base generator derm-64. It has: derm-32 1.0.0, derm-32 1.1.0."
    assert capsys.readouterr().err.strip() == told


ACCEPT = ["--accept-licence", "CC-BY-NC-4.0", "--name", "R. Rosa", "--purpose", "Research", "--institution", "Lima"]


def test_models_lists_the_releases(site, capsys):
    site.objects["model.bin"] = b"x" * 2**20
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "grf-1  GRF 1  1.0 MiB",
        f"    CC-BY-NC-4.0, licence not accepted by you: {site.portal_url}/models/licences/CC-BY-NC-4.0",
    ]


def test_download_without_acceptance_says_how_to_accept(site, tmp_path, capsys):
    assert cli.main(["download", "grf-1", "--out", str(tmp_path / "m"), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "licence_not_accepted"
    assert error["fix"].startswith(f"Read {site.portal_url}/models/licences/CC-BY-NC-4.0, then add: --accept-licence")
    assert (site.accepted, (tmp_path / "m").exists()) == ([], False)


def test_download_accepts_the_licence_and_verifies(site, tmp_path, capsys):
    site.objects["model.bin"] = b"weights"
    assert cli.main(["download", "grf-1", "--out", str(tmp_path / "m"), *ACCEPT]) == 0
    facts = {"licence_sha256": "a" * 64, "typed_name": "R. Rosa", "purpose": "Research", "institution": "Lima"}
    assert site.accepted == [facts]
    assert (tmp_path / "m" / "model.bin").read_bytes() == b"weights"
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "m" / name) for name in ("model.bin", "SHA256SUMS")]


def test_download_does_not_accept_another_licence(site, tmp_path):
    other = ["MIT" if word == "CC-BY-NC-4.0" else word for word in ACCEPT]
    assert cli.main(["download", "grf-1", "--out", str(tmp_path / "m"), *other]) == 1
    assert site.accepted == []


def test_download_of_an_unknown_model_says_what_there_is(site, tmp_path, capsys):
    assert cli.main(["download", "grf-9", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.strip() == "Error: There is no released model grf-9. `consortium models` lists them."


# fit, check, sample


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Two steps of training on four pictures."""
    folder, out = tmp_path_factory.mktemp("photographs"), tmp_path_factory.mktemp("run") / "out"
    rng = np.random.default_rng(5)
    for index in range(4):
        Image.fromarray(rng.integers(30, 255, (80, 80, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    arguments = ["fit", str(folder), "--out", str(out), "--steps", "2", "--batch-size", "2", "--device", "cpu"]
    assert cli.main(arguments) == 0
    return arguments, out


def test_fit_writes_weights_and_card(fitted):
    _, out = fitted
    assert sorted(path.name for path in out.iterdir()) == ["training_card.json", "weights.safetensors"]
    card = json.loads((out / "training_card.json").read_text())
    assert (card["images"], card["steps"], card["batch_size"], card["base"]["slug"]) == (4, 2, 2, "fundus-64")


def test_fit_writes_over_nothing(fitted, capsys):
    arguments, out = fitted
    before = (out / "weights.safetensors").read_bytes()
    assert cli.main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "out_not_empty"
    assert (out / "weights.safetensors").read_bytes() == before


def test_fit_goes_on_with_a_stopped_run_only_when_told(tmp_path, capsys):
    (tmp_path / "state.safetensors").touch()
    assert cli.main(["fit", str(tmp_path), "--out", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "run_stopped"


def test_sample_draws_images_with_a_manifest(fitted, tmp_path):
    weights, out = fitted[1] / "weights.safetensors", tmp_path / "synthetic"
    assert cli.main(["sample", "--weights", str(weights), "--n", "3", "--seed", "7", "--out", str(out)]) == 0
    with (out / "manifest.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["file"], row["seed"], row["class"], row["synthetic"]) for row in rows] == [
        ("000000.png", "7", "0", "true"),
        ("000001.png", "8", "1", "true"),
        ("000002.png", "9", "2", "true"),
    ]
    assert {row["generator_sha256"] for row in rows} == {hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert [row["sha256"] for row in rows] == [
        hashlib.sha256((out / row["file"]).read_bytes()).hexdigest() for row in rows
    ]
    assert [Image.open(out / row["file"]).size for row in rows] == [(64, 64)] * 3


def test_sample_refuses_what_is_no_weights_file(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"PK\x03\x04" + b"\0" * 100)
    assert cli.main(["sample", "--weights", str(path), "--n", "1", "--out", str(tmp_path / "out"), "--json"]) == 2
    assert (tmp_path / "out").exists() is False


def test_check_fails_a_foreign_file_with_the_remedy(tmp_path, capsys):
    path = tmp_path / "model.pth"
    path.write_bytes(b"PK\x03\x04" + b"\0" * 100)
    assert cli.main(["check", str(path)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fail  1 container: model.pth is")
    assert lines[-1] == "model.pth: fail"


def test_check_fails_the_base_itself(capsys):
    assert cli.main(["check", str(BASE / "model.safetensors"), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert (report["verdict"], report["base"]) == ("fail", "fundus-64")
    assert [(row["number"], row["verdict"]) for row in report["checks"]] == [
        (1, "pass"), (2, "warn"), (4, "pass"), (5, "fail")
    ]  # fmt: skip
    assert report["checks"][-1]["evidence"]["code"] == "is_the_base"


def test_check_of_an_unknown_base_names_the_known(weights, capsys):
    assert cli.main(["check", str(weights), "--base", "fundus-65"]) == 1
    assert capsys.readouterr().err.strip() == (
        "Error: There is no base generator fundus-65. Known here: fundus-64; or give its folder."
    )
