"""The kit against the portal itself, over HTTP, and the real object store."""

import hashlib
import json

import numpy as np
import pytest
from django.utils import timezone

from contributions.models import Contribution
from jobs.kit import cli, cli_portal, doctor, fetch, generator, keys, signin, statements, transfer
from jobs.kit.client import Portal, PortalError
from portal import storage
from portal.accounts import services as accounts
from portal.programmes import services as programmes
from portal.programmes.models import CHECKS
from tests import attesting, factories
from tests.hostile import honest

pytestmark = pytest.mark.django_db(transaction=True)
CONTENT = np.random.default_rng(3).bytes(2 * storage.PART_SIZE_BYTES + 12_345)  # three parts
CARD = {
    "images": 20, "patients": "unknown", "steps": 100, "batch_size": 8, "learning_rate": 1e-4, "seed": 0,
    "augmentation": "flips", "deduplication": "sha256", "dp": {"used": False}, "cameras": "unknown",
    "demographics": "unknown", "base": {"slug": "fundus-64"},
}  # fmt: skip


@pytest.fixture
def base(programme):
    return factories.base_model(programme)


@pytest.fixture
def portal(live_server, settings, steward, base, monkeypatch, tmp_path) -> Portal:
    settings.PORTAL_URL = live_server.url
    token = accounts.create_token(steward, name="kit", now=timezone.now())
    monkeypatch.setenv("CONSORTIUM_URL", live_server.url)
    monkeypatch.setenv("CONSORTIUM_TOKEN", token)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Portal(live_server.url, token)


@pytest.fixture
def draft(portal, institution) -> dict:
    return portal.create_contribution(
        kind="weights", institution=institution.slug, base_model="fundus-64", title="Weights", training_card=CARD
    )


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def sound(tmp_path):
    """Weights that the kit sends: it looks at them before."""
    path = tmp_path / "sound.safetensors"
    path.write_bytes(honest())
    return path


def test_upload_arrives_whole_in_the_quarantine(portal, draft, weights):
    file = transfer.upload(portal, draft["id"], weights)
    assert (file["state"], file["parts_uploaded"]) == ("uploaded", [1, 2, 3])
    row = Contribution.objects.get(pk=draft["id"]).files.get()
    arrived = hashlib.sha256(storage.get(storage.QUARANTINE, row.storage_key)).hexdigest()
    assert arrived == row.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_the_store_refuses_bytes_that_are_not_those_announced(portal, draft, weights):
    hashed = transfer.hash_file(weights)
    weights.write_bytes(CONTENT[::-1])
    portal.backoff_seconds = 0
    with pytest.raises(transfer.TransferError) as caught:
        transfer.upload(portal, draft["id"], weights, hashed=hashed)
    assert caught.value.code == "transfer_failed"
    row = Contribution.objects.get(pk=draft["id"]).files.get()
    assert storage.list_parts(row.storage_key, row.upload_id) == []


def test_upload_goes_on_with_the_parts_that_the_store_holds(portal, draft, weights):
    hashed = transfer.hash_file(weights)
    announced = {"name": weights.name, "size_bytes": len(CONTENT), "parts_sha256": hashed.parts_sha256}
    file = portal.add_file(draft["id"], **announced)
    part = portal.sign_parts(draft["id"], file["id"], [{"number": 2, "sha256": hashed.parts[1]}])["urls"][0]
    body = CONTENT[storage.PART_SIZE_BYTES : 2 * storage.PART_SIZE_BYTES]
    assert transfer.to_store("PUT", part["url"], headers=part["headers"], body=body).status == 200
    seen = []
    file = transfer.upload(portal, draft["id"], weights, hashed=hashed, on_progress=lambda *event: seen.append(event))
    assert file["state"] == "uploaded"
    assert seen[0] == (storage.PART_SIZE_BYTES, len(CONTENT), "Sending weights.safetensors")


def test_contribute_submits_to_the_portal(portal, institution, sound, tmp_path, capsys):
    card = tmp_path / "card.json"
    card.write_text(json.dumps(CARD))
    given = ["--institution", institution.slug, "--title", "Weights of 2026", "--card", str(card), "--unsigned"]
    assert cli.main(["contribute", "weights", str(sound), *given, "--no-wait", "--json"]) == 0
    row = Contribution.objects.get()
    assert (row.status, row.title, row.institution, row.training_card) == (
        "submitted",
        "Weights of 2026",
        institution,
        CARD,
    )
    assert json.loads(capsys.readouterr().out)["id"] == row.pk


def test_contribute_signs_and_sends_the_privacy_report(portal, programme, institution, sound, tmp_path, monkeypatch):
    programmes.change(programme, by=None, checks=list(CHECKS))
    monkeypatch.setenv("CONSORTIUM_KEY", str(tmp_path / "key.pem"))
    key = keys.create(tmp_path / "key.pem")
    card, report = tmp_path / "card.json", tmp_path / "report.json"
    card.write_text(json.dumps(CARD))
    report.write_text(json.dumps(attesting.privacy(sound.read_bytes(), key)))
    given = ["--institution", institution.slug, "--title", "Weights", "--card", str(card), "--no-wait"]
    assert cli.main(["contribute", "weights", str(sound), *given]) == 2  # the report is missing; the draft stays
    assert cli.main(["contribute", "weights", str(sound), *given, "--privacy", str(report)]) == 0
    row = Contribution.objects.get()
    signed = {statement.kind: statement.envelope for statement in row.attestations.all()}
    found = statements.open_statement(signed["signature"], statements.WEIGHTS, attesting.known(key))
    assert (row.status, found.sha256) == ("submitted", hashlib.sha256(sound.read_bytes()).hexdigest())
    assert signed["privacy"] == json.loads(report.read_text())


def test_the_doctor_finds_the_portal_its_clock_and_its_store(portal, tmp_path):
    found = {finding.name: finding.verdict for finding in doctor.examine(portal, tmp_path)}
    assert {found[name] for name in ("portal", "clock", "store")} == {"pass"}


def test_contribute_with_an_empty_card_says_what_is_missing_and_keeps_the_draft(
    portal, institution, sound, tmp_path, capsys
):
    card = tmp_path / "card.json"
    card.write_text("{}")
    given = ["--institution", institution.slug, "--title", "Weights", "--card", str(card), "--unsigned", "--json"]
    assert cli.main(["contribute", "weights", str(sound), *given]) == 2
    row = Contribution.objects.get()
    out, err = capsys.readouterr()
    assert (row.status, row.files.get().state) == ("draft", "uploaded")
    assert json.loads(out)["error"]["sentence"].count("images") == 1
    card.write_text(json.dumps(CARD))
    assert cli.main(["contribute", "weights", str(sound), *given, "--no-wait"]) == 0
    assert Contribution.objects.get().status == "submitted"


def test_contribute_for_an_institution_of_others_is_refused(portal, outsider, sound, tmp_path, capsys):
    card = tmp_path / "card.json"
    card.write_text(json.dumps(CARD))
    given = ["--institution", "andes-retina", "--title", "Weights", "--card", str(card), "--unsigned", "--json"]
    assert cli.main(["contribute", "weights", str(sound), *given]) == 2
    assert Contribution.objects.count() == 0


def test_login_ends_with_a_token_that_works(portal, live_server, steward):
    site = Portal(live_server.url)

    def approve(code: dict) -> None:
        accounts.answer_device_login(code["user_code"], approve=True, by=steward, now=timezone.now())

    token = signin.sign_in(site, "kit", approve)
    assert Portal(live_server.url, token).me()["email"] == steward.email


def test_a_wrong_token_is_told_to_sign_in(portal, live_server):
    with pytest.raises(PortalError) as caught:
        list(Portal(live_server.url, "wrong").contributions())
    assert (caught.value.code, caught.value.exit_code) == ("not_signed_in", 1)


def test_download_resumes_from_the_real_store(portal, base, tmp_path):
    content = (factories.BASE_FOLDER / "model.safetensors").read_bytes()
    target = tmp_path / "base.safetensors"
    target.with_name("base.safetensors.part").write_bytes(content[:1_000_000])
    seen = []
    fetch.download(
        portal,
        f"/api/v1/base-models/{base.pk}/download",
        target,
        size_bytes=len(content),
        sha256=base.sha256,
        on_progress=lambda *event: seen.append(event[0]),
    )
    assert target.read_bytes() == content
    assert min(seen) > 1_000_000


def test_models_of_a_portal_without_releases(portal, capsys):
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().out == "No model is released yet.\n"
    assert cli_portal.WAITING == {"submitted", "validating"}


def test_the_base_is_fetched_with_what_the_programme_asks_for(portal, institution, base, tmp_path):
    assert cli.main(["base", "fundus-64", "--out", str(tmp_path / "base")]) == 0
    held = generator.load_base(tmp_path / "base")
    generator.require_whole(held)
    assert held.config == base.effective_config()
