"""Who held which role when, who gave it and who ended it: for auditors, operators and the chair."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse

from portal.accounts import services as accounts
from portal.audit.models import AuditEvent
from portal.institutions import memberships, role_history
from portal.institutions.models import Membership
from tests import factories

PAGE, CSV = reverse("role_history"), reverse("role_history_csv")
MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def shown(client, **query) -> list[tuple[str, str]]:
    return [(row.person, row.role) for row in client.get(PAGE, query).context["roles"]]


def rows_of(response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode())))


@pytest.fixture
def held(researcher, operator, programme):
    """A seat of one programme, given on Monday and ended two days later."""
    seat = accounts.appoint(researcher, "board_member", programme=programme, by=operator, now=MONDAY)
    return accounts.end_role(seat, by=None, now=MONDAY + timedelta(days=2))


@pytest.mark.parametrize(
    ("who", "status"),
    [("auditor", 200), ("operator", 200), ("chair", 200), ("board_member", 403), ("steward", 403), ("researcher", 403)],
)
def test_the_history_is_for_who_reads_the_log(request, sign_in, who, status):
    client = sign_in(request.getfixturevalue(who))
    assert [client.get(url).status_code for url in (PAGE, CSV)] == [status, status]


def test_a_seat_says_when_where_and_by_whom(sign_in, auditor, held, operator, programme):
    (row,) = sign_in(auditor).get(PAGE, {"person": "rosa"}).context["roles"]
    assert row.cells() == (
        held.user_id, "Rosa Researcher", "Board member", "", programme.name, MONDAY, MONDAY + timedelta(days=2),
        operator.name, "system",
    )  # fmt: skip


def test_a_role_in_an_institution_says_the_same(sign_in, auditor, institution, steward, investigator):
    membership = steward.memberships.get()
    memberships.end_membership(membership, by=investigator, now=MONDAY + timedelta(days=9999))
    (row,) = sign_in(auditor).get(PAGE, {"person": steward.pk}).context["roles"]
    assert (row.role, row.place, row.programme) == ("Data steward", "Moi Eye Clinic", "")
    event = AuditEvent.objects.get(verb="membership.started", subject_id=membership.pk)
    giver = "system" if event.actor_id is None else role_history.people.names_of({event.actor_id})[event.actor_id]
    assert (row.given_by, row.ended_by) == (giver, investigator.name)


def test_a_role_without_an_event_says_so(sign_in, auditor, researcher, institution):
    Membership.objects.create(user=researcher, institution=institution, role="member", started_at=MONDAY)
    (row,) = sign_in(auditor).get(PAGE, {"person": "rosa"}).context["roles"]
    assert (row.given_by, row.ended_by) == ("not on record", "")


def test_the_history_narrows(sign_in, auditor, held, institution, member):
    client = sign_in(auditor)
    rosa = ("Rosa Researcher", "Board member")
    assert shown(client, role="consortium:board_member", person="rosa") == [rosa]
    assert shown(client, role="consortium:chair", person="rosa") == []
    assert shown(client, role="institution:member") == [(member.name, "Member")]
    assert shown(client, person="rosa", day="2026-03-01") == []
    assert [shown(client, person="rosa", day=f"2026-03-0{day}") for day in (2, 3, 4)] == [[rosa]] * 3
    assert shown(client, person="rosa", day="2026-03-05") == []


@pytest.mark.parametrize("query", [{"role": "consortium:king"}, {"day": "soon"}])
def test_a_malformed_filter_shows_nothing_and_says_so(sign_in, auditor, held, query):
    client = sign_in(auditor)
    page = client.get(PAGE, query)
    assert (page.status_code, page.context["roles"], list(page.context["form"].errors)) == (422, [], list(query))
    assert client.get(CSV, query).status_code == 422


def test_older_pages_go_by_start_kind_and_number(sign_in, auditor, institution, monkeypatch):
    for number in range(3):  # all begun at once, of both kinds
        person = factories.user(f"Zelda {number}")
        accounts.appoint(person, "auditor", by=None, now=MONDAY)
        Membership.objects.create(user=person, institution=institution, role="member", started_at=MONDAY)
    monkeypatch.setattr("portal.institutions.role_pages.PAGE_SIZE", 4)
    client, seen, query = sign_in(auditor), [], {"person": "Zelda"}
    while True:
        page = client.get(PAGE, query)
        seen += [(row.person, row.role) for row in page.context["roles"]]
        if not page.context["before"]:
            break
        query["before"] = page.context["before"]
    people = [f"Zelda {number}" for number in (2, 1, 0)]
    assert seen == [(name, "Member") for name in people] + [(name, "Auditor") for name in people]


@pytest.mark.parametrize("before", ["x", "2026_consortium_1", "2026-13-40T00:00:00Z_consortium_1", "a_b_c"])
def test_a_bent_cursor_shows_the_first_page(sign_in, auditor, held, before):
    assert shown(sign_in(auditor), person="rosa", before=before) == [("Rosa Researcher", "Board member")]


@pytest.mark.parametrize("item_count", [1, 3])
def test_the_history_needs_the_same_queries_for_any_number(sign_in, auditor, django_assert_num_queries, item_count):
    for number in range(item_count):
        accounts.appoint(factories.user(f"Person {number}"), "auditor", by=auditor, now=MONDAY)
    client = sign_in(auditor)
    client.get(PAGE)
    with django_assert_num_queries(8):  # session, person, standing, right, unread; roles, events, names
        client.get(PAGE, {"person": "Person "})


def test_the_erased_are_former_members_in_the_history(sign_in, auditor, held, researcher, now):
    researcher.is_active, researcher.erased_at = False, now
    researcher.save()
    client = sign_in(auditor)
    assert shown(client, person="rosa") == []
    assert shown(client, person=str(researcher.pk)) == [("a former member", "Board member")]


def test_taking_the_history_along_is_on_record_without_names(sign_in, auditor, held, researcher):
    query = {"person": "Rosa", "role": "consortium:board_member", "day": "2026-03-03"}
    (row,) = rows_of(sign_in(auditor).get(CSV, query))
    assert list(row) == role_history.COLUMNS
    assert (row["person"], row["from"], row["ended_by"]) == ("Rosa Researcher", MONDAY.isoformat(), "system")
    event = AuditEvent.objects.get(verb="roles.exported")
    assert (event.actor_id, event.facts) == (auditor.pk, {"filters": query | {"person": [researcher.pk]}})
