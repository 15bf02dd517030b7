"""Who gets which answer from every address. The expected table is access_matrix.csv; an unlisted address fails."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from contributions import services as contributions
from governance.benchmarks import services as benchmarks
from governance.board.models import Motion
from jobs import tasks
from jobs.models import Run
from portal.accounts import services as accounts
from portal.agreements.models import Signature
from portal.institutions import documents, joining, memberships
from portal.institutions.models import Membership
from portal.notifications.models import Mail
from tests import factories

TABLE = Path(__file__).with_name("access_matrix.csv")
CONTENT_TYPES = {True: "application/json", False: "application/x-www-form-urlencoded"}
PERSONAS = ["anonymous", "researcher", "outsider", "member", "steward", "board_member", "operator", "auditor"]


def routes(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    """Yield every route except Django's admin, which has its own matrix of permissions and is read-only."""
    for entry in resolver.url_patterns:
        if isinstance(entry, URLPattern):
            yield prefix + str(entry.pattern)
        elif entry.namespace != "admin":
            yield from routes(entry, prefix + str(entry.pattern))


def expected_rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_address_is_in_the_table():
    assert {row["route"] for row in expected_rows()} == set(routes(get_resolver()))


@pytest.fixture
def world(institution, steward, member, outsider, board, operator, auditor, researcher, settings) -> dict[str, object]:
    """One of everything, owned by `institution`; every placeholder of the table by name."""
    settings.MAILBOX_PAGE = True
    settings.ACCOUNT_RATE_LIMITS = False
    now = timezone.now()
    reviewed = factories.reviewed_contribution(institution)
    evidence = contributions.add_evidence(
        reviewed, run_id=1, attempt=1, name="samples.png", content=b"\x89PNG\r\n\x1a\n"
    )
    draft = factories.draft_contribution(institution)
    file = factories.upload(draft, b"more bytes")
    submitted = factories.submitted_contribution(institution, b"third bytes")
    tasks.validate_contribution(contribution_id=submitted.pk)
    invitation, secret = memberships.invite(
        institution, email="new@example.org", role=Membership.Role.MEMBER, by=steward, now=now
    )
    join_request = joining.ask(institution, role="member", message="", by=factories.user("Asks"), now=now)
    document, *_ = documents.announce(
        institution, name="approval.pdf", size_bytes=3, sha256="0" * 64, by=steward, now=now
    )
    release = factories.released_model(operator)
    task = factories.benchmark_task(release.candidate.programme)
    evaluation = benchmarks.record_evaluation(
        task, release.candidate, run_id=1, report=factories.evaluation_report(), now=now
    )
    unreleased = factories.candidate(release.candidate.programme, slug="waiting")
    accounts.create_token(steward, name="kit", now=now)
    mail = Mail.objects.create(recipient="a@example.org", subject="Hello", body="http://localhost/")
    return {
        "slug": institution.slug,
        "release": release.slug,
        "candidate": unreleased.slug,
        "name": "SHA256SUMS",
        "spdx_id": release.license.spdx_id,
        "contribution": reviewed.pk,
        "draft": draft.pk,
        "file": file.pk,
        "evidence": evidence.pk,
        "motion": Motion.objects.get(contribution=reviewed).pk,
        "evaluation": evaluation.pk,
        "run": Run.objects.get(subject_id=submitted.pk).pk,
        "submitted": submitted.pk,
        "secret": secret,
        "invitation": invitation.pk,
        "join_request": join_request.pk,
        "document": document.pk,
        "membership": Membership.objects.get(user=member).pk,
        "token": steward.api_tokens.get().pk,
        "code": Signature.objects.get(institution=institution).receipt_code,
        "base_model": reviewed.base_model_id,
        "mail": mail.pk,
        "programme": institution.signatures.get().agreement.programme.slug,
    }


@pytest.fixture
def clients(sign_in, researcher, outsider, member, steward, board_member, operator, auditor) -> dict[str, Client]:
    people = [researcher, outsider, member, steward, board_member, operator, auditor]
    return {"anonymous": Client(), **dict(zip(PERSONAS[1:], map(sign_in, people), strict=True))}


def answer(client: Client, method: str, path: str) -> str:
    """Return the status, or `sign in` for a redirect to the sign-in page; whatever it changed is rolled back."""
    with transaction.atomic():
        accept = "*/*" if path.startswith("/api/") else "text/html"
        response = client.generic(
            method, path, content_type=CONTENT_TYPES[path.startswith("/api/")], HTTP_ACCEPT=accept
        )
        transaction.set_rollback(True)
    location = response.headers.get("Location", "")
    return "sign in" if "/accounts/login/" in location else str(response.status_code)


def test_everybody_gets_the_expected_answer(world, clients):
    rows = expected_rows()
    found = [
        {**row, **{name: answer(clients[name], row["method"], row["path"].format(**world)) for name in PERSONAS}}
        for row in rows
    ]
    differing = [
        (row["method"], row["path"], name, f"expected {row[name]}, got {got[name]}")
        for row, got in zip(rows, found, strict=True)
        for name in PERSONAS
        if row[name] != got[name]
    ]
    assert differing == []
