"""Inbox, preferences and webhooks over the API: one's own, and nobody else's."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from portal.audit.people import reference
from portal.notifications import webhooks
from portal.notifications.models import Notification
from portal.notifications.types import Type
from tests import factories
from tests.integration.test_contributions_api import Kit


def can(document) -> list[str]:
    return [row["name"] for row in document["available_actions"]]


@pytest.fixture
def api(researcher) -> Kit:
    return Kit(researcher)


def test_the_inbox_is_one_s_own_and_is_narrowed(api, researcher, outsider):
    factories.told(outsider, subject="For somebody else")
    first = factories.told(researcher)
    second = factories.told(researcher, type=Type.REVIEW)
    assert [row["id"] for row in api.get("notifications")[1]["results"]] == [second.pk, first.pk]
    assert [row["id"] for row in api.get("notifications?type=review")[1]["results"]] == [second.pk]
    assert api.get("notifications?type=gossip")[0] == 400
    assert api.get("notifications/unread-count")[1] == {"count": 2}
    marked = api.post(f"notifications/{first.pk}/read")[1]
    assert (marked["read_at"] is not None, can(marked)) == (True, ["unread"])
    assert api.post(f"notifications/{first.pk}/read")[1] == marked  # the first reading stays
    assert [row["id"] for row in api.get("notifications?unread=1")[1]["results"]] == [second.pk]
    assert api.post(f"notifications/{first.pk}/unread")[1]["read_at"] is None
    assert api.post("notifications/read", {"type": "review"})[1] == {"count": 1}
    assert api.post("notifications/read")[1] == {"count": 1}
    assert api.get("notifications/unread-count")[1] == {"count": 0}


def test_looking_changes_nothing(api, researcher):
    row = factories.told(researcher)
    assert api.get(f"notifications/{row.pk}")[1]["read_at"] is None
    api.get("notifications")
    row.refresh_from_db()
    assert row.read_at is None


def test_nobody_obtains_another_s_entry(api, outsider):
    row = factories.told(outsider)
    assert api.get(f"notifications/{row.pk}")[0] == 404
    assert api.post(f"notifications/{row.pk}/read")[0] == 404
    assert api.post("notifications/read")[1] == {"count": 0}
    row.refresh_from_db()
    assert row.read_at is None


def test_people_in_the_texts_have_their_names(api, researcher, outsider):
    row = factories.told(researcher, subject=f"{reference(outsider)} asks", text=f"It is {reference(outsider)}.")
    listed = api.get("notifications")[1]["results"][0]
    assert (listed["subject"], listed["text"]) == (f"{outsider.name} asks", f"It is {outsider.name}.")
    assert api.get(f"notifications/{row.pk}")[1]["subject"] == f"{outsider.name} asks"


def test_what_binds_cannot_be_switched_off(api):
    chosen = api.get("notifications/preferences")[1]
    assert set(chosen) == set(Type.values)
    status, changed = api.call("PUT", "notifications/preferences", {**chosen, "ballot": "off", "account": "daily"})
    assert (status, changed["ballot"], changed["account"]) == (200, "off", "daily")
    assert api.get("notifications/preferences")[1] == changed
    status, problem = api.call("PUT", "notifications/preferences", {**chosen, "account": "off"})
    assert (status, list(problem["errors"])) == (400, ["account"])
    assert sorted(api.call("PUT", "notifications/preferences", {})[1]["errors"]) == sorted(Type.values)


def test_webhooks_are_listed_without_their_secret_and_disabled(api, researcher, outsider, now):
    hook = webhooks.add(researcher, url="https://hook.example.org/", now=now)
    other = webhooks.add(outsider, url="https://other.example.org/", now=now)
    status, listed = api.get("webhooks")
    assert (status, [row["id"] for row in listed["results"]]) == (200, [hook.pk])
    assert webhooks.secret_of(hook) not in str(listed)
    assert hook.salt not in str(listed)
    disabled = api.post(f"webhooks/{hook.pk}/disable")[1]
    assert (disabled["disabled_because"], disabled["available_actions"][0]["allowed"]) == ("You disabled it.", False)
    assert api.post(f"webhooks/{hook.pk}/disable")[1] == disabled
    assert api.post(f"webhooks/{other.pk}/disable")[0] == 404


def test_the_inbox_costs_the_same_with_ten_entries_and_with_a_thousand(api, researcher, outsider, member):
    def tell(number: int) -> None:
        people = [outsider, member, researcher]
        Notification.objects.bulk_create(
            Notification(
                recipient=researcher,
                type=Type.REVIEW,
                subject=f"{reference(people[n % 3])}",
                text="It waits.",
                path="/",
            )
            for n in range(number)
        )

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert api.get("notifications")[0] == 200
        return len(queries)

    api.get("me")  # the first use of the token is noted
    tell(10)
    few = cost()
    tell(990)
    assert (cost(), Notification.objects.filter(recipient=researcher).count()) == (few, 1000)
