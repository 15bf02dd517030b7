"""The commands that get a machine, a folder and the evidence ready, as typed."""

import errno
import io
import json
from pathlib import Path

import pytest

from jobs.kit import cli, generator, keys, statements
from jobs.kit.phantom import write_sample
from tests import attesting
from tests.factories import CARD

BASE = Path(generator.__file__).parent / "base" / "fundus-64"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user without anything: no portal, no key."""
    for name in ("CONSORTIUM_URL", "CONSORTIUM_TOKEN", "CONSORTIUM_KEY", "CONSORTIUM_KEY_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"weights")
    return path


def answer(capsys, *typed: str) -> tuple[int, dict]:
    status = cli.main([*typed, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_a_key_is_made_shown_and_signs(tmp_path, weights, capsys):
    assert answer(capsys, "keys", "show")[1]["error"]["code"] == "key_missing"
    status, made = answer(capsys, "keys", "new")
    assert (status, Path(made["key_file"])) == (0, tmp_path / "config" / "consortium" / "signing-key.pem")
    assert answer(capsys, "keys", "show") == (0, made)
    key = keys.load(Path(made["key_file"]))
    registration = {"registration": keys.registration(key, "lake-clinic")}
    assert answer(capsys, "keys", "show", "--institution", "lake-clinic") == (0, made | registration)
    assert cli.main(["keys", "show", "--institution", "lake-clinic"]) == 0
    assert f"Registration: {registration['registration']}\n" in capsys.readouterr().out
    assert answer(capsys, "keys", "new")[1]["error"]["code"] == "key_exists"
    status, signed = answer(capsys, "sign", str(weights))
    envelope = json.loads(Path(signed["signature"]).read_text())
    found = statements.unverified(envelope, statements.WEIGHTS)
    assert (status, found.fingerprint, found.sha256) == (0, made["fingerprint"], signed["sha256"])


def test_a_full_disk_leaves_no_key_and_an_empty_file_is_told_as_such(tmp_path, monkeypatch, capsys):
    path = tmp_path / "key.pem"

    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fdopen", lambda descriptor, mode: Full(descriptor, mode))
        assert answer(capsys, "keys", "new", "--key", str(path))[1]["error"]["code"] == "no_room"
    assert not path.exists()
    path.touch()
    for typed in ("new", "show"):
        status, refused = answer(capsys, "keys", typed, "--key", str(path))
        assert (status, refused["error"]["code"], path.read_bytes()) == (1, "key_empty", b"")
    path.unlink()
    assert answer(capsys, "keys", "new", "--key", str(path))[0] == 0


def test_a_passphrase_is_asked_of_the_environment_alone(weights, monkeypatch, capsys):
    monkeypatch.setenv("CONSORTIUM_KEY_PASSPHRASE", "a long passphrase")
    assert cli.main(["keys", "new"]) == 0
    monkeypatch.delenv("CONSORTIUM_KEY_PASSPHRASE")
    capsys.readouterr()
    status, refused = answer(capsys, "sign", str(weights))
    assert (status, refused["error"]["code"]) == (1, "passphrase_wrong")


def test_check_takes_the_documents_that_go_with_the_file(tmp_path, capsys):
    paths = {}
    content = (BASE / "model.safetensors").read_bytes()
    documents = {
        "card": CARD,
        "signature": attesting.signature(content, attesting.key_of("clinic")),
        "privacy": attesting.privacy(content, attesting.key_of("clinic")),
    }
    for name, document in documents.items():
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(json.dumps(document))
    typed = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    status, report = answer(capsys, "check", str(BASE / "model.safetensors"), *typed)
    codes = {row["number"]: row["evidence"].get("code") for row in report["checks"]}
    assert (status, codes) == (2, {1: None, 2: "keys_not_known", 4: None, 5: "is_the_base"})
    paths["card"].write_bytes(b"\xef\xbb\xbf" + json.dumps(CARD).encode())  # as Windows writes it
    assert answer(capsys, "check", str(BASE / "model.safetensors"), *typed)[0] == 2
    paths["card"].write_text('{\n "images": 20,\n}')
    refused = answer(capsys, "check", str(BASE / "model.safetensors"), *typed)[1]["error"]
    assert (refused["code"], refused["sentence"].partition(" is no JSON ")[2][:24]) == (
        "document_invalid", "at line 3, column 1 (Exp"
    )  # fmt: skip
    paths["card"].write_text("[]")
    status, refused = answer(capsys, "check", str(BASE / "model.safetensors"), *typed)
    assert (status, refused["error"]["code"]) == (1, "document_invalid")


def test_prepare_counts_and_says_what_comes_next(tmp_path, capsys):
    site = write_sample(tmp_path / "site", 8, seed=4, size=96)
    status, counts = answer(capsys, "prepare", str(site), "--out", str(tmp_path / "prepared"))
    assert (status, counts["photographs"], counts["unreadable"]) == (0, 8, 0)
    assert answer(capsys, "prepare", str(site), "--out", str(tmp_path / "prepared"))[1]["error"]["code"] == (
        "out_not_empty"
    )
    assert cli.main(["prepare", str(site), "--out", str(tmp_path / "again")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("8 photographs of ")
    assert err.splitlines()[-1] == f"Next: consortium fit {tmp_path / 'again'} --out run"


@pytest.mark.parametrize("held_out", ["0", "1", "1.5", "nan"])
def test_a_share_that_leaves_one_side_empty_is_wrong_usage(tmp_path, held_out, capsys):
    assert cli.main(["prepare", str(tmp_path), "--out", str(tmp_path / "x"), "--held-out", held_out]) == 64


def test_privacy_asks_for_the_key_before_an_hour_of_work(tmp_path, weights, capsys):
    site = write_sample(tmp_path / "site", 3, size=64)
    status, refused = answer(capsys, "privacy", str(site), "--weights", str(weights))
    assert (status, refused["error"]["code"]) == (1, "key_missing")


def test_evidence_is_not_measured_for_a_place_that_cannot_be_written(tmp_path, weights, capsys):
    assert cli.main(["keys", "new"]) == 0
    capsys.readouterr()
    site = write_sample(tmp_path / "site", 3, size=64)
    (tmp_path / "file").touch()
    for typed in (["privacy", str(site), "--weights", str(weights)], ["sign", str(weights)]):
        status, refused = answer(capsys, *typed, "--out", str(tmp_path / "file" / "report.json"))
        assert (status, refused["error"]["code"]) == (1, "file_unusable")
    assert answer(capsys, "sign", str(weights), "--out", str(tmp_path / "new" / "signed.json"))[0] == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["signed.json"]


def test_evidence_is_written_over_nothing_but_evidence_of_its_kind(tmp_path, weights, capsys):
    made = Path(answer(capsys, "keys", "new")[1]["key_file"])
    site = write_sample(tmp_path / "site", 3, size=64)
    (tmp_path / "link").symlink_to(weights)
    (tmp_path / "card.json").write_text("{}")
    report, signed = tmp_path / "report.json", tmp_path / "signed.json"
    report.write_text(json.dumps(attesting.privacy(b"weights", attesting.key_of("clinic"))))
    signed.write_text(json.dumps(attesting.signature(b"weights", attesting.key_of("clinic"))))
    privacy = ["privacy", str(site), "--weights", str(weights), "--card", str(tmp_path / "card.json")]
    sign = ["sign", str(weights)]
    cases = [(sign, weights, "out_is_input"), (sign, tmp_path / "link", "out_is_input"), (sign, made, "out_is_input"),
             (sign, report, "target_exists"), (sign, site / "labels.csv", "target_exists"),
             (privacy, weights, "out_is_input"), (privacy, tmp_path / "card.json", "out_is_input"),
             (privacy, signed, "target_exists"), (privacy, site / "labels.csv", "target_exists")]  # fmt: skip
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for typed, out, code in cases:
        status, refused = answer(capsys, *typed, "--out", str(out))
        assert (status, refused["error"]["code"]) == (1, code)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_signature_may_be_made_again(tmp_path, weights, capsys):
    answer(capsys, "keys", "new")
    assert [answer(capsys, "sign", str(weights))[0] for _ in range(2)] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "weights.safetensors", "weights.safetensors.signed.json"
    ]  # fmt: skip


def test_what_cannot_be_written_whole_leaves_what_was_there(tmp_path, weights, monkeypatch, capsys):
    answer(capsys, "keys", "new")
    signed = Path(answer(capsys, "sign", str(weights))[1]["signature"])
    before = signed.read_bytes()

    def full(path, text, **_):
        path.write_bytes(text.encode()[:9])
        raise OSError(errno.ENOSPC, "", str(path))

    monkeypatch.setattr(Path, "write_text", full)
    assert answer(capsys, "sign", str(weights))[1]["error"]["code"] == "no_room"
    assert (signed.read_bytes(), list(tmp_path.glob(".*"))) == (before, [])


def test_privacy_refuses_a_file_that_is_no_weights_file_before_anything_reads_it(tmp_path, weights, capsys):
    assert cli.main(["keys", "new"]) == 0
    capsys.readouterr()
    site = write_sample(tmp_path / "site", 3, size=64)
    status, refused = answer(capsys, "privacy", str(site), "--weights", str(weights))
    assert (status, refused["error"]["code"]) == (2, "truncated")


@pytest.mark.parametrize(
    ("entry", "changed", "problem"),
    [
        ({"used": True, "noise_multiplier": 1.1, "sample_rate": 0.05, "delta": 1e-5}, {}, "it lacks dp.epsilon"),
        ({"used": False, "note": "none"}, {"base": {"slug": "other", "sha256": "0" * 64}}, "it was measured against"),
    ],
)
def test_privacy_signs_no_report_that_the_portal_would_not_take(tmp_path, monkeypatch, capsys, entry, changed, problem):
    assert cli.main(["keys", "new"]) == 0
    capsys.readouterr()
    site = write_sample(tmp_path / "site", 3, size=64)
    (tmp_path / "card.json").write_text(json.dumps({**CARD, "dp": entry}))
    measured = attesting.report(weights_sha256="0" * 64)
    monkeypatch.setattr("jobs.kit.privacy.report", lambda *args, **given: measured | changed)
    typed = ["--weights", str(BASE / "model.safetensors"), "--card", str(tmp_path / "card.json")]
    report = tmp_path / "report.json"
    status, refused = answer(capsys, "privacy", str(site), *typed, "--out", str(report))
    assert (status, refused["error"]["code"], report.exists()) == (2, "report_malformed", False)
    assert problem in refused["error"]["sentence"]


def test_doctor_without_a_portal_cannot_tell_everything(capsys):
    status, report = answer(capsys, "doctor")
    verdicts = {row["name"]: row["verdict"] for row in report["findings"]}
    assert (status, report["verdict"], verdicts["python"], verdicts["portal"]) == (3, "unknown", "pass", "unknown")
