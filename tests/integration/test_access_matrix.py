"""
Who gets which answer from every address. The expected table is access_matrix.csv; an unlisted address fails.

Each row is asked three times where its address names an object: for an object of the people's own institution, for the
same kind of object of another institution, and for one that does not exist. `WRITE_MATRIX=1` writes what the site
answers now into the table, for a person to read before it is committed.
"""

import csv
import os
import re
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tests.integration.world import missing, shared_objects, site_objects

TABLE = Path(__file__).with_name("access_matrix.csv")
PERSONAS = [
    "anonymous", "researcher", "member", "investigator", "signing_official", "steward", "board_member", "chair",
    "operator", "auditor",
]  # fmt: skip
TARGETS = ["own", "other", "missing"]
COLUMNS = ["method", "route", "path", "target", *PERSONAS]
PLACEHOLDER = re.compile(r"{(\w+)}")
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


def answer(client: Client, method: str, path: str) -> str:
    """Return the status, or `sign in` for a redirect to the sign-in page; whatever it changed is rolled back."""
    is_api, cookies = path.startswith("/api/v1/"), client.cookies.copy()
    with transaction.atomic():
        response = client.generic(
            method,
            path,
            content_type="application/json" if is_api else "application/x-www-form-urlencoded",
            HTTP_ACCEPT="*/*" if is_api else "text/html",
        )
        transaction.set_rollback(True)
    client.cookies = SimpleCookie(cookies)  # who was signed out by the answer is signed in for the next question
    client.cookies = cookies  # of a session that the request ended and the rollback brought back
    location = response.headers.get("Location", "")
    return "sign in" if "/accounts/login/" in location else str(response.status_code)


def ask(rows: list[Row], worlds, clients) -> list[Row]:
    """Return the rows with what the site answers."""
    fill: Callable[[Row], str] = lambda row: row["path"].format(**worlds[row["target"]])  # noqa: E731
    return [{**row, **{name: answer(clients[name], row["method"], fill(row)) for name in PERSONAS}} for row in rows]


@pytest.mark.parametrize("target", TARGETS)
def test_everybody_gets_the_expected_answer(worlds, clients, target):
    if "WRITE_MATRIX" in os.environ:
        return write(target, worlds, clients)
    rows = [row for row in expected_rows() if row["target"] == target]
    differing = [
        (row["method"], row["path"], name, f"expected {row[name]}, got {got[name]}")
        for row, got in zip(rows, ask(rows, worlds, clients), strict=True)
        for name in PERSONAS
        if row[name] != got[name]
    ]
    assert differing == []


def write(target: str, worlds, clients) -> None:
    """Put what the site answers now into the rows of `target`, and add the rows that are missing."""
    rows = expected_rows()
    known = {(row["method"], row["path"], row["target"]): row for row in rows}
    asked = dict.fromkeys((row["method"], row["route"], row["path"]) for row in rows)
    wanted = [
        {"method": method, "route": route, "path": path, "target": name}
        for method, route, path in asked
        for name in (TARGETS if PLACEHOLDER.search(path) else ["own"])
    ]
    answered = {
        (row["method"], row["path"]): row
        for row in ask([row for row in wanted if row["target"] == target], worlds, clients)
    }
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for row in wanted:
            before = known.get((row["method"], row["path"], row["target"]), row)
            writer.writerow(answered[row["method"], row["path"]] if row["target"] == target else before)
