"""Signatures and privacy reports with a contribution: kept with the draft, asked for at submission, checked whole."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, transaction
from django.utils import timezone

from contributions import attestations, services
from contributions.models import Attestation, CheckResult
from contributions.reports import accepted_layers, report_of
from governance.board.models import Motion
from jobs.kit.checks import sites
from jobs.kit.checks.drawn import Drawn, load_reference
from portal import storage
from portal.errors import NotAllowed
from portal.institutions import signing_keys
from portal.programmes import services as programmes
from portal.programmes.models import CHECKS, Programme
from tests import attesting, contributing, factories
from tests.hostile import honest
from tests.integration.test_validation import check

pytestmark = pytest.mark.services
KEY = attesting.key_of("the clinic")


@pytest.fixture
def every_check(programme) -> Programme:
    """The programme as the retina blueprint makes it: all checks."""
    programmes.change(programme, checks=list(CHECKS), by=None)
    programme.refresh_from_db()
    return programme


@pytest.fixture
def registered(institution, signing_official):
    given = {
        "registration": attesting.registration("the clinic", institution.slug),
        "label": "test",
        "by": signing_official,
    }
    return signing_keys.register(institution, **given, now=timezone.now())


def attested(institution, steward, content: bytes, *, signer=KEY, **figures: float):
    """Return a draft with its file, a signature and a report."""
    draft = factories.draft_contribution(institution)
    factories.upload(draft, content)
    for kind, envelope in (
        ("signature", attesting.signature(content, signer)),
        ("privacy", attesting.privacy(content, signer, **figures)),
    ):
        attestations.attest(draft, kind=kind, envelope=envelope, by=steward, now=timezone.now())
    return draft


def submitted(draft, steward):
    return services.submit(draft, by=steward, now=timezone.now())


def test_what_the_programme_asks_for_must_be_here_at_submission(institution, steward, every_check):
    draft = factories.draft_contribution(institution)
    factories.upload(draft, b"weights")
    with pytest.raises(attestations.AttestationsMissing, match="signature and privacy report"):
        submitted(draft, steward)
    attestations.attest(
        draft, kind="signature", envelope=attesting.signature(b"weights", KEY), by=steward, now=timezone.now()
    )
    with pytest.raises(attestations.AttestationsMissing, match="Missing: privacy report"):
        submitted(draft, steward)
    attestations.attest(
        draft, kind="privacy", envelope=attesting.privacy(b"weights", KEY), by=steward, now=timezone.now()
    )
    assert submitted(draft, steward).status == "submitted"


def test_another_statement_takes_the_place_of_the_first_until_submission(institution, steward, outsider, every_check):
    draft = attested(institution, steward, b"weights")
    newer = attesting.signature(b"weights", attesting.key_of("newer"))
    row = attestations.attest(draft, kind="signature", envelope=newer, by=steward, now=timezone.now())
    assert (draft.attestations.count(), row.envelope) == (2, newer)
    with pytest.raises(NotAllowed):
        attestations.attest(draft, kind="signature", envelope=newer, by=outsider, now=timezone.now())
    submitted(draft, steward)
    with pytest.raises(attestations.AttestationsFixed):
        attestations.attest(draft, kind="signature", envelope=newer, by=steward, now=timezone.now())


@pytest.mark.parametrize(
    "envelope",
    [
        None,
        [],
        {"payload": "x"},
        {"payloadType": "a", "payload": "b", "signatures": []},
        {"payloadType": "a", "payload": "b", "signatures": [{"keyid": "a", "sig": "b"}], "more": 1},
        {"payloadType": "a", "payload": "b" * attestations.MAX_BYTES, "signatures": [{"keyid": "a", "sig": "b"}]},
        {"payloadType": "a", "payload": "b", "signatures": [{"keyid": "a", "sig": "b"}, [[[[]]]]]},
        {"payloadType": "a", "payload": "b", "signatures": [{"keyid": "a", "sig": "b", "more": 1.5}]},
        {"payloadType": "a", "payload": "b\0", "signatures": [{"keyid": "a", "sig": "b"}]},
        {"payloadType": "a", "payload": "b", "signatures": [{"keyid": "\ud800", "sig": "b"}]},
        {"payloadType": "\x1b[2J", "payload": "b", "signatures": [{"keyid": "a", "sig": "b"}]},
    ],
)
def test_what_the_kit_never_writes_is_refused(institution, steward, envelope):
    draft = factories.draft_contribution(institution)
    with pytest.raises(attestations.AttestationRefused):
        attestations.attest(draft, kind="signature", envelope=envelope, by=steward, now=timezone.now())
    assert draft.attestations.count() == 0


def test_a_long_statement_is_read_as_it_was_sent(institution, steward):
    draft = factories.draft_contribution(institution)
    long = {"payloadType": "a", "payload": "b" * 200_000, "signatures": [{"keyid": "a", "sig": "b"}]}
    attestations.attest(draft, kind="privacy", envelope=long, by=steward, now=timezone.now())
    assert attestations.of(draft) == {"privacy": long}


def test_the_database_refuses_a_second_statement_of_a_kind_and_an_unknown_one(institution, steward):
    draft = attested(institution, steward, b"weights")
    for kind in ("signature", "other"):
        with pytest.raises(IntegrityError), transaction.atomic():
            Attestation.objects.create(contribution=draft, kind=kind, envelope={}, added_by=steward)


def test_a_foreign_signature_ends_the_checks_before_a_tensor_is_read(institution, steward, every_check, registered):
    draft = attested(institution, steward, honest(), signer=attesting.key_of("a stranger"))
    contribution = check(submitted(draft, steward))
    failed = contribution.check_results.get(verdict="fail")
    assert (contribution.status, failed.number, failed.evidence["code"]) == ("rejected", 2, "unknown_key")
    assert Motion.objects.filter(contribution=contribution).count() == 0


def test_a_revoked_key_signs_nothing_more(institution, steward, every_check, registered):
    draft = submitted(attested(institution, steward, honest()), steward)
    signing_keys.revoke(registered, reason="Lost.", by=steward, now=timezone.now())
    assert check(draft).check_results.get(verdict="fail").evidence["code"] == "unknown_key"


def accepted_elsewhere(name: str, folder) -> None:
    """Let another institution have accepted images, with what their checks kept: here of public photographs."""
    site = factories.member_institution(name)
    base = Programme.objects.get().base_models.first() or factories.base_model(Programme.objects.get())
    steward = factories.person_of(site, "steward")
    contribution = contributing.at_status("approved", site, base, by=steward, content=name.encode())
    public = load_reference(factories.BASE_FOLDER / "reference.safetensors")
    drawn = Drawn(public.pixels, public.classes)
    vars(drawn)["features"] = public.features
    sites.save_drawn(drawn, folder)
    content = (folder / sites.DRAWN).read_bytes()
    services.add_evidence(contribution, run_id=contribution.pk, attempt=1, name=sites.DRAWN, content=content)


@pytest.mark.django_db(transaction=True)  # the heartbeat has a connection of its own, and must see the run
def test_all_the_checks_speak_and_the_board_gets_the_report(
    institution, steward, programme, registered, board, tmp_path
):
    for name in ("Lake Hospital", "Coast Hospital"):
        accepted_elsewhere(name, tmp_path)
    programmes.change(programme, checks=list(CHECKS), by=None)
    contribution = check(submitted(attested(institution, steward, honest(), auc=0.65), steward))
    found = {row.number: row.verdict for row in contribution.check_results.all()}
    assert found == dict.fromkeys(range(12), "pass") | {9: "warn"}
    assert contribution.status == "review"
    assert [picture.name for picture in report_of(contribution).pictures] == ["samples.png", "neighbours.png"]
    left_out = contribution.check_results.get(number=10).evidence["left_out"]
    assert (left_out["sites"], left_out["effect"]) == (2, pytest.approx(left_out["with"] - left_out["without"]))
    kept = contribution.evidence_files.get(name="drawn.safetensors")
    assert storage.get(storage.VAULT, kept.storage_key)[8:].startswith(b"{")
    rows = {row.number: str(row.figure) for row in report_of(contribution).rows}
    assert ["<table" in rows[number] for number in (5, 8, 9, 11)] == [True] * 4
    assert "0.65" in rows[9]


@pytest.mark.django_db(transaction=True)  # as above
def test_a_report_of_copies_is_refused_whatever_else_passes(institution, steward, every_check, registered):
    contribution = check(submitted(attested(institution, steward, honest(), copy_share=0.6), steward))
    failed = contribution.check_results.get(verdict="fail")
    assert (contribution.status, failed.number, failed.evidence["code"]) == ("rejected", 9, "copies")


def test_a_waiting_report_lists_what_the_programme_asks_for_alone(institution, steward):
    contribution = factories.submitted_contribution(institution)
    assert [row.number for row in report_of(contribution).rows] == [0, 1, 3, 4, 5, 7]
    CheckResult.objects.create(
        contribution=contribution, run_id=1, attempt=1, number=9, name="privacy", verdict="pass", sentence="s",
        evidence={"report": "of an older kit"}, duration_seconds=0,
    )  # fmt: skip
    assert str(report_of(contribution).rows[-1].figure) == ""


# Page and API


def test_statements_are_added_on_the_page(sign_in, institution, steward, every_check):
    draft = factories.draft_contribution(institution)
    client, url = sign_in(steward), f"/contributions/{draft.pk}/"
    page = client.get(f"{url}files/").content.decode()
    assert ("no signing key yet" in page, "consortium privacy" in page) == (True, True)
    for kind, envelope in (
        ("signature", attesting.signature(b"w", KEY)),
        ("privacy", attesting.privacy(b"w", KEY)),
    ):
        sent = SimpleUploadedFile("x.json", json.dumps(envelope).encode())
        assert client.post(f"{url}evidence-files/", {"statement": sent}).status_code == 302
        assert draft.attestations.get(kind=kind).envelope == envelope
    wrong = client.post(f"{url}evidence-files/", {"statement": SimpleUploadedFile("x.json", b"[1")})
    assert (wrong.status_code, "no signed statement of the kit" in wrong.content.decode()) == (422, True)


def test_statements_are_put_through_the_api(sign_in, institution, steward, member, outsider, every_check):
    draft = factories.draft_contribution(institution)
    envelope = attesting.signature(b"w", KEY)

    def put(person, kind="signature", body=envelope):
        url = f"/api/v1/contributions/{draft.pk}/attestations/{kind}"
        return sign_in(person).put(url, json.dumps(body), content_type="application/json")

    answer = put(steward)
    assert (answer.status_code, answer.json()["attestations"]) == (200, ["signature"])
    assert draft.attestations.get().envelope == envelope
    assert put(steward, kind="other").status_code == 404
    assert put(steward, body={"payload": "x"}).status_code == 400
    assert put(member).status_code == 403
    assert put(outsider).status_code == 404


def test_what_was_accepted_is_one_peer_however_often_it_was_checked(at_status):
    """A worker may be lost after check 5, and a check may be made again after a fault."""
    approved = at_status("approved")
    for run_id, attempt in ((1, 1), (2, 1), (2, 2), (1, 2)):
        layers = {"conv_in": run_id + attempt / 10}
        contributing.check(approved, 5, "pass", run_id=run_id, attempt=attempt, evidence={"layers": layers})
    assert accepted_layers(approved.base_model, now=timezone.now()) == [{"conv_in": 2.2}]
