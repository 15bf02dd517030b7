"""The inbox, the choice per kind, the daily mail, the calendar file."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail as sent_mail
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone
from icalendar import Calendar

from portal.audit.people import reference
from portal.notifications import digest, outbox, services
from portal.notifications.models import Notification, OutboxMessage, Preference
from portal.notifications.services import notify
from portal.notifications.types import MANDATORY, Delivery, Type
from tests import factories

LIST = "/inbox/"


@pytest.fixture
def ann(db):
    return factories.user("Ann Able", email="ann@example.org")


@pytest.fixture
def ben(db):
    return factories.user("Ben Busy", email="ben@example.org")


def tell(*people, **changes):
    values = {"type": Type.CONTRIBUTION, "subject": "C-7 passed", "text": "The board has it.", "path": "/models/"}
    notify(people, **values | changes)
    return Notification.objects.latest("pk")


def subjects(page):
    return [row.subject for row in page.context["rows"]]


# Telling


def test_each_person_is_told_once_per_key_and_each_time_without(ann, ben):
    for _ in range(2):
        tell(ann, ben, ann, key="reminder-60", subject="Keyed")
        tell(ann, subject="Unkeyed")
    told = list(Notification.objects.order_by("recipient", "pk").values_list("recipient", "subject"))
    assert told == [(ann.pk, "Keyed"), (ann.pk, "Unkeyed"), (ann.pk, "Unkeyed"), (ben.pk, "Keyed")]
    assert OutboxMessage.objects.count() == 4


def test_who_has_left_is_not_told(ann, ben):
    ann.is_active = False
    ann.save()
    tell(ann, ben)
    assert list(OutboxMessage.objects.values_list("address", flat=True)) == ["ben@example.org"]


# The list


def test_the_inbox_holds_ones_own_newest_first_with_names_of_today(ann, ben, sign_in):
    tell(ann, subject=f"{reference(ben)} has signed")
    tell(ann, subject="Second", text=f"By {reference(ben)}.")
    tell(ben, subject="Of Ben only")
    ben.name = "Ben <New>"
    ben.save()
    page = sign_in(ann).get(LIST)
    assert subjects(page) == ["Second", "Ben <New> has signed"]
    assert "Ben &lt;New&gt; has signed" in page.text
    assert "Of Ben only" not in page.text


def test_the_inbox_is_filtered_by_kind_and_goes_on_by_number(ann, sign_in, monkeypatch):
    monkeypatch.setattr("portal.notifications.inbox.PAGE_SIZE", 2)
    for number in range(3):
        tell(ann, subject=f"Contribution {number}")
        tell(ann, subject=f"Ballot {number}", type=Type.BALLOT)
    browser = sign_in(ann)
    first = browser.get(LIST, {"type": "contribution"})
    assert subjects(first) == ["Contribution 2", "Contribution 1"]
    second = browser.get(LIST, {"type": "contribution", "before": first.context["before"]})
    assert (subjects(second), second.context["before"]) == (["Contribution 0"], 0)
    assert browser.get(LIST, {"type": "nonsense"}).status_code == 422


def test_the_menu_counts_what_is_unread(ann, ben, sign_in):
    browser = sign_in(ann)
    assert 'class="count"' not in browser.get("/models/").text
    tell(ann, ben)
    tell(ann)
    assert '<span class="count">2<' in browser.get("/models/").text
    services.mark_all_read(ann, now=timezone.now())
    assert 'class="count"' not in browser.get("/models/").text
    Notification.objects.bulk_create(
        Notification(recipient=ann, type=Type.BALLOT, subject="S", text="T", path="/") for _ in range(120)
    )
    assert '<span class="count">99+<' in browser.get("/models/").text


def test_the_inbox_costs_the_same_with_ten_and_with_a_thousand_rows(ann, ben, sign_in, django_assert_num_queries):
    browser = sign_in(ann)
    for count in (10, 990):
        for _ in range(count):
            tell(ann, subject=f"{reference(ben)} has signed")
        # session, person, bounced, rows, their mails, names, roles and unread for the menu
        with django_assert_num_queries(8):
            assert len(browser.get(LIST).context["rows"]) == min(count, 30)


def test_an_entry_says_what_became_of_its_mail(ann, sign_in):
    browser = sign_in(ann)
    tell(ann)
    assert "On its way" in browser.get(LIST).text
    outbox.send_due(now=timezone.now())
    assert "Handed to your mail server" in browser.get(LIST).text
    for delivery, words in [(Delivery.DAILY, "In the next daily mail"), (Delivery.OFF, "Only here")]:
        Notification.objects.all().delete()
        services.prefer(ann, {Type.CONTRIBUTION: delivery})
        tell(ann)
        assert words in browser.get(LIST).text


# Reading


def test_a_get_or_head_of_a_link_changes_nothing_and_a_post_reads(ann, sign_in):
    row = tell(ann)
    browser, url = sign_in(ann), reverse("inbox:open", args=[row.pk])
    for method in (browser.get, browser.head):
        assert method(url).headers["Location"] == "/models/"
        assert Notification.objects.unread().count() == 1
    assert browser.post(url).headers["Location"] == "/models/"
    assert Notification.objects.unread().count() == 0


def test_one_or_all_of_a_kind_are_marked(ann, ben, sign_in):
    row = tell(ann)
    tell(ann, type=Type.BALLOT)
    tell(ben)
    browser = sign_in(ann)
    mark = reverse("inbox:mark", args=[row.pk])
    assert browser.post(mark, {"back": "ballot"}).headers["Location"] == "/inbox/?type=ballot"
    row.refresh_from_db()
    assert row.read_at is not None
    browser.post(mark, {"unread": "1"})
    assert Notification.objects.unread().filter(recipient=ann).count() == 2
    browser.post(reverse("inbox:mark_all"), {"type": "ballot"})
    assert list(Notification.objects.unread().filter(recipient=ann)) == [row]
    browser.post(reverse("inbox:mark_all"))
    assert list(Notification.objects.unread().values_list("recipient", flat=True)) == [ben.pk]
    assert browser.get(mark).status_code == 405


def test_nobody_obtains_an_entry_of_somebody_else(ann, ben, sign_in):
    row = tell(ann, deadline_at=timezone.now())
    browser = sign_in(ben)
    for name in ("open", "mark", "deadline"):
        url = reverse(f"inbox:{name}", args=[row.pk])
        assert {browser.post(url).status_code, browser.get(url).status_code} <= {404, 405}
    assert Notification.objects.unread().count() == 1


# Deadlines


def test_a_deadline_is_a_calendar_file_with_two_alarms(ann, ben, sign_in, settings):
    at = datetime(2026, 12, 24, 17, 0, tzinfo=UTC)
    row = tell(ann, subject=f"{reference(ben)} waits; sign, please", deadline_at=at)
    answer = sign_in(ann).get(reverse("inbox:deadline", args=[row.pk]))
    assert answer.headers["Content-Type"] == "text/calendar; charset=utf-8"
    (event,) = Calendar.from_ical(answer.content).walk("VEVENT")
    assert (str(event["UID"]), str(event["SUMMARY"])) == (
        f"notification-{row.pk}@127.0.0.1",
        "Ben Busy waits; sign, please",
    )
    assert event.decoded("DTSTART") == at
    assert str(event["URL"]) == f"{settings.PORTAL_URL}/models/"
    triggers = [alarm.decoded("TRIGGER") for alarm in event.walk("VALARM")]
    assert triggers == [timedelta(days=-7), timedelta(days=-1)]


def test_what_has_no_deadline_has_no_calendar_file(ann, sign_in):
    assert sign_in(ann).get(reverse("inbox:deadline", args=[tell(ann).pk])).status_code == 404


# The choice


def chosen(**changes):
    return {type.value: "instant" for type in Type} | changes


def test_the_choice_per_kind_decides_what_is_mailed(ann, sign_in):
    browser = sign_in(ann)
    answer = browser.post(reverse("inbox:settings"), chosen(ballot="off", release="daily"))
    assert answer.status_code == 302
    for type in (Type.BALLOT, Type.RELEASE, Type.CONTRIBUTION):
        tell(ann, type=type)
    assert list(OutboxMessage.objects.values_list("type", flat=True)) == ["contribution"]
    assert Notification.objects.count() == 3
    assert browser.get(reverse("inbox:settings")).context["form"].initial["ballot"] == "off"


@pytest.mark.parametrize("type", sorted(MANDATORY))
def test_what_binds_or_protects_cannot_be_switched_off(ann, sign_in, type):
    answer = sign_in(ann).post(reverse("inbox:settings"), chosen(**{type: "off"}))
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, [type])
    with pytest.raises(services.Mandatory):
        services.prefer(ann, {type: "off"})
    with pytest.raises(IntegrityError, match="mandatory_is_never_off"), transaction.atomic():
        Preference.objects.create(user=ann, type=type, delivery="off")


def test_the_database_refuses_impossible_rows(ann):
    tell(ann, key="one")
    services.prefer(ann, {Type.BALLOT: "off"})
    for model, constraint, changes in [
        (Notification, "notification_type_known", {"type": "gossip"}),
        (Notification, "notification_path_is_ours", {"path": "//evil.example/"}),
        (Notification, "notification_path_is_ours", {"path": "https://evil.example/"}),
        (Preference, "preference_known", {"delivery": "hourly"}),
    ]:
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            model.objects.update(**changes)
    for model, constraint, row in [
        (Notification, "told_once_per_key", {"recipient": ann, "type": "ballot", "path": "/", "key": "one"}),
        (Preference, "one_preference_per_type", {"user": ann, "type": "ballot", "delivery": "daily"}),
    ]:
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            model.objects.create(**row)


# The daily mail

MONDAY = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
TUESDAY = datetime(2026, 11, 24, 6, 30, tzinfo=UTC)


@pytest.fixture
def daily(ann, ben):
    """Ann gets one mail a day, and was told twice on Monday at ten."""
    services.prefer(ann, {Type.CONTRIBUTION: "daily"})
    tell(ann, subject=f"{reference(ben)} sent one", deadline_at=datetime(2026, 12, 1, 9, 0, tzinfo=UTC))
    tell(ann, subject="Second", path="/benchmark/")
    Notification.objects.update(created_at=MONDAY)


def test_the_daily_mail_leaves_after_six_once_with_everything_unread(daily, settings):
    assert OutboxMessage.objects.count() == 0
    assert digest.send_daily(now=TUESDAY.replace(hour=5, minute=59)) == 0
    assert [digest.send_daily(now=TUESDAY) for _ in range(2)] == [1, 0]
    outbox.send_due(now=timezone.now())
    (message,) = sent_mail.outbox
    assert (message.to, message.subject) == (["ann@example.org"], "Your day on Global RETFound: 2 entries")
    html = message.alternatives[0].content
    for form in (message.body, html):
        assert "Ben Busy sent one" in form
        assert "1 Dec 2026, 09:00" in form
        assert f"{settings.PORTAL_URL}/benchmark/" in form


def test_what_was_read_before_is_not_in_the_daily_mail(daily, ann):
    services.mark_all_read(ann, now=MONDAY)
    assert digest.send_daily(now=TUESDAY) == 0
    assert Notification.objects.filter(waits_for_digest=True).count() == 0


def test_what_comes_after_six_waits_for_the_next_day(daily, ann):
    digest.send_daily(now=TUESDAY)
    tell(ann, subject="Late")
    Notification.objects.filter(subject="Late").update(created_at=TUESDAY)
    assert digest.send_daily(now=TUESDAY + timedelta(hours=9)) == 0
    assert digest.send_daily(now=TUESDAY + timedelta(days=1)) == 1


def test_an_entry_that_shows_up_late_waits_for_the_next_daily_mail(daily, ann):
    digest.send_daily(now=TUESDAY)
    tell(ann, subject="Committed late")
    Notification.objects.filter(subject="Committed late").update(created_at=MONDAY)
    assert digest.send_daily(now=TUESDAY + timedelta(hours=1)) == 0
    assert digest.send_daily(now=TUESDAY + timedelta(days=1)) == 1


def test_who_has_left_gets_no_daily_mail(daily, ann):
    ann.is_active = False
    ann.save()
    assert digest.send_daily(now=TUESDAY) == 0
