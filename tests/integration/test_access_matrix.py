"""
Who gets which answer from every address. The expected table is access_matrix.csv; an unlisted address fails. What was
refused to somebody signed in is on record, once.

Each row is asked three times where its address names an object: for an object of the people's own institution, for the
same kind of object of another institution, and for one that does not exist. `WRITE_MATRIX=1` writes what the site
answers now into the table, for a person to read before it is committed.
"""

import csv
import logging
import os
import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from django.db import transaction
from django.db.models import Max
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from portal.audit.models import AuditEvent
from tests.integration.world import missing, shared_objects, site_objects

TABLE = Path(__file__).with_name("access_matrix.csv")
PERSONAS = [
    "anonymous", "researcher", "member", "investigator", "signing_official", "steward", "board_member", "chair",
    "operator", "auditor",
]  # fmt: skip
TARGETS = ["own", "other", "missing"]
COLUMNS = ["method", "route", "path", "target", *PERSONAS]
PLACEHOLDER = re.compile(r"{(\w+)}")
READS = {"GET", "HEAD"}
REFUSED = {"403", "404", "409"}
REFUSALS = {"attempt.refused", "invitation.refused"}
Row = dict[str, str]


def routes(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    """Yield every route except Django's admin, which has its own matrix of permissions and is read-only."""
    for entry in resolver.url_patterns:
        if isinstance(entry, URLPattern):
            yield prefix + str(entry.pattern)
        elif entry.namespace != "admin":
            yield from routes(entry, prefix + str(entry.pattern))


def expected_rows() -> list[Row]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_address_is_in_the_table():
    assert {row["route"] for row in expected_rows()} == set(routes(get_resolver()))


def test_every_address_of_an_object_is_asked_for_own_others_and_missing():
    """A row whose address names an object has its two sisters beside it."""
    rows = expected_rows()
    targets = {(row["method"], row["path"], row["target"]) for row in rows}
    wanted = {
        (row["method"], row["path"], target)
        for row in rows
        for target in (TARGETS if PLACEHOLDER.search(row["path"]) else ["own"])
    }
    assert targets == wanted


@pytest.fixture
def people(request) -> dict[str, object]:
    return {name: request.getfixturevalue(name) for name in PERSONAS if name != "anonymous"}


@pytest.fixture
def worlds(institution, programme, outsider, people, settings, log_origin) -> dict[str, dict[str, object]]:
    """One of everything of `institution`, the same of another one, and what exists nowhere, by placeholder."""
    settings.MAILBOX_PAGE = True
    settings.ACCOUNT_RATE_LIMITS = False
    shared = shared_objects(programme, operator=people["operator"])
    own = shared | site_objects(institution)
    other = shared | site_objects(outsider.memberships.current().first().institution)
    return {"own": own, "other": other, "missing": missing(own)}


@pytest.fixture
def clients(sign_in, people) -> dict[str, Client]:
    return {"anonymous": Client(), **{name: sign_in(person) for name, person in people.items()}}


def answer(client: Client, method: str, path: str) -> tuple[str, list[str]]:
    """
    Return the status, or `sign in` for a redirect to the sign-in page, and what an unsafe one put into the audit log.

    Whatever it changed is rolled back.
    """
    before = 0 if method in READS else AuditEvent.objects.aggregate(last=Max("pk"))["last"] or 0
    is_api, cookies = path.startswith("/api/v1/"), client.cookies.copy()
    with transaction.atomic():
        response = client.generic(
            method,
            path,
            content_type="application/json" if is_api else "application/x-www-form-urlencoded",
            HTTP_ACCEPT="*/*" if is_api else "text/html",
        )
        verbs = [] if method in READS else list(AuditEvent.objects.filter(pk__gt=before).values_list("verb", flat=True))
        transaction.set_rollback(True)
    client.cookies = SimpleCookie(cookies)  # who was signed out by the answer is signed in for the next question
    client.cookies = cookies  # of a session that the request ended and the rollback brought back
    location = response.headers.get("Location", "")
    return "sign in" if "/accounts/login/" in location else str(response.status_code), verbs


def ask(rows: list[Row], worlds, clients) -> tuple[list[Row], list[tuple]]:
    """Return the rows with what the site answers, and the refusals that are not on record, once and alone."""
    found, unrecorded = [], []
    for row in rows:
        path, answers = row["path"].format(**worlds[row["target"]]), {}
        for name in PERSONAS:
            answers[name], verbs = answer(clients[name], row["method"], path)
            if row["method"] not in READS and not _is_on_record(name, answers[name], verbs):
                unrecorded.append((row["method"], path, name, answers[name], verbs))
        found.append({**row, **answers})
    return found, unrecorded


def _is_on_record(name: str, status: str, verbs: list[str]) -> bool:
    """A refusal of somebody signed in is one event, also where a page tells it on the way back; a stranger's none."""
    if status in REFUSED and name != "anonymous":
        return len(verbs) == 1 and verbs[0] in REFUSALS
    return not REFUSALS & set(verbs) or (status == "302" and len(verbs) == 1)


@pytest.mark.slow
def test_everybody_gets_the_expected_answer(worlds, clients, caplog):
    caplog.set_level(logging.ERROR, "django.request")  # a warning for each refusal, with where it was raised
    if "WRITE_MATRIX" in os.environ:
        return write(worlds, clients)
    rows = expected_rows()
    found, unrecorded = ask(rows, worlds, clients)
    differing = [
        (row["method"], row["path"], name, f"expected {row[name]}, got {got[name]}")
        for row, got in zip(rows, found, strict=True)
        for name in PERSONAS
        if row[name] != got[name]
    ]
    assert (differing, unrecorded) == ([], [])


def write(worlds, clients) -> None:
    """Put what the site answers now into the table, with the rows that are missing."""
    asked = dict.fromkeys((row["method"], row["route"], row["path"]) for row in expected_rows())
    wanted = [
        {"method": method, "route": route, "path": path, "target": target}
        for method, route, path in asked
        for target in (TARGETS if PLACEHOLDER.search(path) else ["own"])
    ]
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(ask(wanted, worlds, clients)[0])
