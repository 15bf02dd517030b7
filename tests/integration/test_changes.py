"""
One event for each change: every address that changes something is really asked to (refusals: test_access_matrix.py).

changes.csv has a row for each unsafe method and address of the access matrix: who does it, with which form or JSON,
what must be so before (`given`, a function below), and the verbs that the log holds afterwards, none but these; or
`none:` and why nothing is on record. A new address fails until it has its row: write all but the verbs, run this file
with WRITE_CHANGES=1, and read what it wrote. More than one verb: one for each object that changed.
"""

import csv
import hashlib
import json
import os
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from contributions import room
from contributions import services as contributions
from contributions.models import Contribution, ContributionFile, RoomRequest
from governance.board import services as boards
from governance.board.models import Meeting, Motion, Review
from governance.board.reviews import QUESTIONS
from governance.releases.models import Candidate, Release
from jobs import evaluate, lifecycle
from jobs import services as runs
from portal import storage
from portal.accounts import services as accounts
from portal.accounts import terms
from portal.accounts.models import DeviceLogin, User
from portal.agreements import services as agreements
from portal.agreements.models import SigningRequest
from portal.audit.models import AuditEvent
from portal.institutions.models import Document, Institution, Invitation
from portal.notifications import outbox
from tests import attesting, contributing, factories
from tests import runs as running
from tests.integration.test_access_matrix import PLACEHOLDER, READS, clients, expected_rows, people, worlds

__all__ = ["clients", "people", "worlds"]
TABLE = Path(__file__).with_name("changes.csv")
COLUMNS = ["method", "path", "persona", "given", "body", "verbs"]
ZEROS = "0" * 64
Row = dict[str, str]


def rows() -> list[Row]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# What must be so before


def cover(world: SimpleNamespace) -> None:
    row = SigningRequest.objects.get(pk=world.cover_case)
    for covered in row.covered.all():
        agreements.confirm_cover(covered, by=factories.person_of(covered.institution), now=timezone.now())


def emptied(world: SimpleNamespace) -> None:
    file = ContributionFile.objects.get(pk=world.file)
    contributions.remove_file(file, by=world.persona("steward"))


def announced(world: SimpleNamespace) -> None:
    emptied(world)
    draft, steward = Contribution.objects.get(pk=world.draft), world.persona("steward")
    world.announced = contributing.announce(draft, b"abc", by=steward, name="second.safetensors").pk


def arrived(world: SimpleNamespace) -> None:
    """All parts are in the store, and nobody has said so."""
    announced(world)
    file = ContributionFile.objects.get(pk=world.announced)
    assert contributing.send(file, b"abc", by=world.persona("steward")) == [200]


def withdrawn(world: SimpleNamespace) -> None:
    row = Contribution.objects.get(pk=world.contribution)
    contributions.withdraw(row, by=world.persona("steward"), reason="Wrong file.", now=timezone.now())


def answered(world: SimpleNamespace) -> None:
    """Nobody waits for an answer: there can be another request."""
    row = RoomRequest.objects.get(pk=world.room_request)
    room.decline(row, reply="Not now.", by=world.persona("operator"), now=timezone.now())


def approved(world: SimpleNamespace) -> None:
    login, world.device_code = accounts.begin_device_login(client_name="kit", now=timezone.now())
    accounts.answer_device_login(login.user_code, approve=True, by=world.persona("steward"), now=timezone.now())
    assert DeviceLogin.objects.filter(approved_by__isnull=False).exists()


def begun(world: SimpleNamespace) -> None:
    Meeting.objects.filter(pk=world.meeting).update(starts_at=timezone.now() - timedelta(hours=1))


def _motion(world: SimpleNamespace) -> Motion:
    return Motion.objects.get(pk=world.motion)


def declared(world: SimpleNamespace) -> None:
    factories.declare(_motion(world))


def ballot(world: SimpleNamespace) -> None:
    declared(world)
    factories.review_all(_motion(world))


def lapsed(world: SimpleNamespace) -> None:
    ballot(world)
    for days in (15, 30):
        boards.close_due(world.motion, now=timezone.now() + timedelta(days=days))


def tied(world: SimpleNamespace) -> None:
    factories.consortium_person("Fourth Member", "board_member")
    ballot(world)
    for voter, choice in zip(boards.electorate(_motion(world)), ("for", "for", "against", "against"), strict=True):
        factories.cast(_motion(world), voter, choice, "Why.")


def seat(world: SimpleNamespace) -> None:
    row = boards.propose_seat(
        world.persona("researcher"), role="board_member", programme=None, reason="Good.",
        term_ends_on=timezone.now().date() + timedelta(days=400), by=world.persona("operator"), now=timezone.now(),
    )  # fmt: skip
    world.seat_motion = row.pk


def outvoted(world: SimpleNamespace) -> None:
    ballot(world)
    voters = list(boards.electorate(_motion(world)))
    for voter, choice in zip(voters, ("against", "for", "for"), strict=True):
        factories.cast(_motion(world), voter, choice, "Why.")
    world.persons["outvoted"] = voters[0]
    decision = _motion(world).decision
    world.year, world.number = decision.year, decision.number


def stored(world: SimpleNamespace) -> None:
    row = Document.objects.get(pk=world.document)
    content = b"%PDF-1.7\n"
    Document.objects.filter(pk=row.pk).update(sha256=hashlib.sha256(content).hexdigest())
    storage.put(storage.QUARANTINE, row.key, content)


def retried(world: SimpleNamespace) -> None:
    outbox.retry(outbox.OutboxMessage.objects.get(pk=world.failed), by=world.persona("operator"), now=timezone.now())


def failed_run(world: SimpleNamespace) -> None:
    run = evaluate.queue(Candidate.objects.get(slug=world.candidate), by=world.persona("operator"))
    runs.cancel(run, by=world.persona("operator"), now=timezone.now())
    world.evaluation_run = run.pk


def refused_run(world: SimpleNamespace) -> None:
    evaluate.queue(Candidate.objects.get(slug=world.candidate), by=world.persona("operator"))
    run = running.claim(factories.worker("gpu@site/1", queues=["gpu"]))
    for status in (lifecycle.Status.RUNNING, lifecycle.Status.FAILED_INPUT):
        runs.move(run, status, now=timezone.now())
    world.evaluation_run = run.pk


def newer_terms(world: SimpleNamespace) -> None:
    world.terms_version = terms.publish(text="# Terms\n", change_note="New.", by=None, now=timezone.now()).version


GIVEN: dict[str, Callable[[SimpleNamespace], None]] = {
    "cover": cover, "emptied": emptied, "announced": announced, "arrived": arrived,
    "withdrawn": withdrawn, "answered": answered, "approved": approved, "begun": begun,
    "declared": declared, "ballot": ballot, "lapsed": lapsed, "tied": tied, "seat": seat, "outvoted": outvoted,
    "stored": stored, "retried": retried, "failed_run": failed_run, "refused_run": refused_run,
    "terms": newer_terms,
}  # fmt: skip


@pytest.fixture
def world(worlds, people, clients, institution, sign_in) -> SimpleNamespace:
    """One of everything, who does what, and what forms ask for."""
    for person in people.values():
        person.set_password(factories.PASSWORD)
        person.save(update_fields=["password"])
    found = SimpleNamespace(**worlds["own"])
    draft_site = factories.draft_institution("Draft Clinic")
    motion = Motion.objects.get(pk=found.motion)
    partner = SigningRequest.objects.get(pk=found.cover_case).covered.get().institution
    found.persons = {
        **people,
        "partner": factories.person_of(partner),
        "declined_lead": factories.person_of(Institution.objects.get(slug=found.declined)),
        "applicant_lead": factories.person_of(Institution.objects.get(slug=found.applicant)),
        "sendable_lead": factories.person_of(draft_site),
        "reviewer": motion.reviews.earliest("pk").reviewer,
        "invited": factories.user("New Person", email=Invitation.objects.get(pk=found.invitation).email),
    }
    found.persona = found.persons.get
    review: Review = motion.reviews.earliest("pk")
    found.draft_site = found.sendable = draft_site.slug
    found.sent_file = ContributionFile.objects.get(contribution=found.submitted).pk
    found.active = institution.signing_requests.get(status="active").pk
    found.text_sha256 = SigningRequest.objects.get(pk=found.case).text_sha256
    found.investigator = people["investigator"].name
    found.member, found.board_member = people["member"].pk, people["board_member"].pk
    found.review_pk = review.pk
    found.free = next(row.pk for row in boards.electorate(motion) if not motion.reviews.filter(reviewer=row).exists())
    found.review = json.dumps({**dict.fromkeys(QUESTIONS, "yes"), "recommendation": "approve", "note": "Sound."})
    found.card = json.dumps({**factories.CARD, "augmentation": "rotation", "dp_used": "no"})
    found.profile = json.dumps({"name": institution.name, "country": "KE", "kind": "hospital", "city": "Nakuru"})
    found.envelope = json.dumps(attesting.signature(b"w", attesting.key_of("the clinic")))
    found.registration = attesting.registration("a new key", institution.slug)
    found.zeros, found.digest = ZEROS, "R" * 43 + "="
    found.researcher_email = people["researcher"].email
    found.chair_role = people["chair"].consortium_roles.get().pk
    found.other_site = Institution.objects.get(slug=worlds["other"]["slug"]).pk
    found.license_sha256 = Release.objects.get(slug=found.release).license.sha256
    found.terms_version, found.invitation_code = 1, "AAAA-AAAA"
    return found


def values(world: SimpleNamespace, persona: str) -> dict[str, Any]:
    """Return what the placeholders of a row stand for."""
    person = world.persona(persona)
    own = {"password": factories.PASSWORD}
    if isinstance(person, User):
        own |= {"email": person.email, "name": person.name, "code": ""}
        if person.authenticator_set.exists():
            own["code"] = factories.totp_code(person)
    return {**vars(world), **own}


def done(row: Row, world: SimpleNamespace, sign_in: Callable[[User], Client]) -> tuple[int, list[str], str]:
    """Do what a row says; return the status, the verbs that are new in the log, and the page. Then all is undone."""
    with transaction.atomic():
        persons = dict(world.persons)
        if row["given"]:
            GIVEN[row["given"]](world)
        person = world.persona(row["persona"])
        client = sign_in(person) if isinstance(person, User) else Client()
        given = values(world, row["persona"])
        body, path = _filled(row["body"] or "{}", given), _filled(row["path"], given)
        before = AuditEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        if path.startswith("/api/v1/") or path.endswith("/documents/"):
            response = client.generic(row["method"], path, body, content_type="application/json")
        else:
            response = client.generic(
                row["method"], path, _form(json.loads(body)), content_type="application/x-www-form-urlencoded"
            )
        verbs = list(AuditEvent.objects.filter(pk__gt=before).order_by("pk").values_list("verb", flat=True))
        page = "" if response.streaming else response.content.decode("utf-8", "replace")
        world.persons = persons
        world.persona = persons.get
        transaction.set_rollback(True)
    return response.status_code, verbs, page


def _filled(text: str, given: dict[str, Any]) -> str:
    return PLACEHOLDER.sub(lambda found: str(given[found[1]]), text)


def _form(given: dict[str, Any]) -> str:
    return urlencode(given, doseq=True)


# The tests


def test_every_unsafe_address_has_its_row():
    unsafe = {(row["method"], _shape(row["path"])) for row in expected_rows() if row["method"] not in READS}
    assert {(row["method"], _shape(row["path"])) for row in rows()} == unsafe


def _shape(path: str) -> str:
    """Return an address without the names of its placeholders: two rows may ask about different objects."""
    return "/".join("{}" if "{" in part else part for part in path.split("/"))


def test_a_change_is_on_record_once(world, sign_in):
    found, differing = [], []
    for row in rows():
        if row["verbs"].startswith("none:"):
            found.append(row)
            continue
        try:
            status, verbs, page = done(row, world, sign_in)
        except Exception as error:  # the other rows are asked too
            differing.append((row["method"], row["path"], repr(error)[:200]))
            found.append({**row, "verbs": f"! {error!r}"[:150]})
            continue
        if not HTTPStatus.OK <= status < HTTPStatus.BAD_REQUEST or " ".join(verbs) != row["verbs"].partition(":")[0]:
            differing.append((row["method"], row["path"], status, verbs, page[-300:] if status >= 400 else ""))
        found.append({**row, "verbs": " ".join(verbs) if verbs else f"? {status}"})
    if "WRITE_CHANGES" in os.environ:
        with TABLE.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)
    assert differing == []
