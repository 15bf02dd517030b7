"""Mail leaves by a real SMTP server, its failures included; nothing is lost and nothing is sent twice."""

import threading
from datetime import timedelta
from unittest.mock import ANY

import pytest
from django.db import IntegrityError, connection, transaction
from django.urls import reverse
from django.utils import timezone

from jobs import tasks
from portal.audit.models import AuditEvent
from portal.audit.people import reference
from portal.celery import app
from portal.errors import NotAllowed
from portal.lifecycle import TransitionNotAllowed
from portal.notifications import outbox, services
from portal.notifications.lifecycle import State
from portal.notifications.models import Mail, Notification, OutboxMessage
from portal.notifications.services import notify, notify_address
from portal.notifications.types import Type
from tests import factories
from tests.mail_server import free_port, mail_server, silent_server

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def use(settings, port):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", port, 1


@pytest.fixture
def server(settings):
    with mail_server() as running:
        use(settings, running.port)
        yield running


@pytest.fixture
def people(db):
    return [factories.user(letter.upper(), email=f"{letter}@example.org") for letter in "abc"]


def tell(people, **changes):
    values = {"type": Type.CONTRIBUTION, "subject": "C-7 passed its checks", "text": "The board has it.", "path": "/x/"}
    notify(people, **values | changes)


def states():
    return dict(OutboxMessage.objects.values_list("address", "state"))


def settle(round_trip):
    """Let rounds follow each other until nothing is due at that time."""
    while round_trip():
        continue


# Delivered


def test_a_mail_arrives_as_text_and_html_with_one_button(server, people, settings, now):
    tell(people[:1], subject=f"{reference(people[1])} has signed", text="Line one.\n<b>Line two</b>")
    assert outbox.send_due(now=timezone.now()) == 1
    (message,) = server.messages
    text, html = (message.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert (message["To"], message["Subject"]) == ("a@example.org", "B has signed")
    assert message["Auto-Submitted"] == "auto-generated"
    assert f"{settings.PORTAL_URL}/x/" in text
    assert f'<a href="{settings.PORTAL_URL}/x/">' in html
    assert "&lt;b&gt;Line two" in html
    for form in (text, html):
        assert "Contributions of my institution" in form
        assert f"{settings.PORTAL_URL}/inbox/settings/" in form
    row = OutboxMessage.objects.get()
    assert (row.state, row.attempts, row.text, row.html, row.path) == ("sent", 1, "", "", "")


def test_a_name_in_a_mail_is_the_one_of_today_and_escaped(server, people):
    tell(people[:1], subject=f"{reference(people[1])} has signed")
    people[1].name = "B & <i>"
    people[1].save()
    outbox.send_due(now=timezone.now())
    assert server.messages[0]["Subject"] == "B & <i> has signed"
    assert "<h2>B &amp; &lt;i&gt; has signed</h2>" in server.messages[0].get_body(("html",)).get_content()


def test_a_secret_link_is_forgotten_once_the_mail_is_handed_over(server, db):
    notify_address("new@example.org", type=Type.INVITATION, subject="Come", text="Do.", path="/invitations/s3cret/")
    outbox.send_due(now=timezone.now())
    assert "/invitations/s3cret/" in server.messages[0].get_body(("plain",)).get_content()
    row = OutboxMessage.objects.values().get()
    assert [name for name, value in row.items() if "s3cret" in str(value)] == []


def test_one_connection_carries_all_mails_of_a_round(server, people):
    tell(people)
    assert outbox.send_due(now=timezone.now()) == 3
    assert sorted(message["To"] for message in server.messages) == [person.email for person in people]


# Not delivered


def test_a_4xx_is_tried_again_after_ten_seconds(server, people, now):
    server.refusals["a@example.org"] = ["451 4.7.1 Greylisted"]
    tell(people[:1])
    start = timezone.now()
    outbox.send_due(now=start)
    row = OutboxMessage.objects.get()
    assert (row.state, row.attempts, row.last_error) == ("pending", 1, "451 4.7.1 Greylisted")
    assert row.next_attempt_at == start + 10 * SECOND
    outbox.send_due(now=start + 9 * SECOND)
    assert server.messages == []
    outbox.send_due(now=start + 10 * SECOND)
    assert [message["To"] for message in server.messages] == ["a@example.org"]
    assert OutboxMessage.objects.get().last_error == ""


@pytest.mark.parametrize("place", ["refusals", "data_refusals"])
def test_a_5xx_bounces_at_once_and_costs_no_other_its_mail(server, people, place):
    getattr(server, place)["b@example.org"] = ["550 5.1.1 No such user"]
    tell(people)
    outbox.send_due(now=timezone.now())
    assert states() == {"a@example.org": "sent", "b@example.org": "bounced", "c@example.org": "sent"}
    assert OutboxMessage.objects.get(state="bounced").last_error == "550 5.1.1 No such user"


def test_the_person_and_the_operator_see_that_mail_comes_back(server, people, sign_in, operator):
    server.refusals["a@example.org"] = ["550 5.1.1 No such user"]
    tell(people[:2])
    outbox.send_due(now=timezone.now())
    for url in (reverse("accounts:profile"), reverse("inbox:list")):
        assert "Mail to a@example.org comes back." in sign_in(people[0]).get(url).text
        assert "comes back" not in sign_in(people[1]).get(url).text
    page = sign_in(operator).get(reverse("outbox:list")).text
    assert "550 5.1.1 No such user" in page
    assert "b@example.org" not in page
    tell(people[:1])  # the mailbox works again
    outbox.send_due(now=timezone.now())
    assert "comes back" not in sign_in(people[0]).get(reverse("inbox:list")).text


def test_a_server_that_is_down_is_asked_less_and_less_and_given_up_after_two_days(settings, people):
    use(settings, free_port())
    tell(people[:1])
    start = at = timezone.now()
    waits = []
    while (row := OutboxMessage.objects.get()).state == State.PENDING:
        at = row.next_attempt_at if row.attempts else start
        outbox.send_due(now=at)
        row.refresh_from_db()
        if row.next_attempt_at:
            waits.append(row.next_attempt_at - at)
    assert waits == [
        10 * SECOND, 30 * SECOND, 1 * MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 1 * HOUR, 2 * HOUR,
        4 * HOUR, 8 * HOUR, 12 * HOUR, 12 * HOUR, 12 * HOUR,
    ]  # fmt: skip
    assert (row.state, row.attempts) == ("dead", 15)
    assert "refused" in row.last_error
    assert timedelta(days=2) < at - start < timedelta(days=2, hours=5)


def test_a_round_ends_with_the_first_mail_that_finds_the_server_down(settings, people):
    use(settings, free_port())
    tell(people)
    outbox.send_due(now=timezone.now())
    assert sorted(OutboxMessage.objects.values_list("attempts", flat=True)) == [0, 0, 1]


def test_a_server_that_hangs_is_left_after_the_timeout(settings, people, server):
    with silent_server() as port:
        use(settings, port)
        settings.EMAIL_TIMEOUT = 0.2
        tell(people[:1])
        outbox.send_due(now=timezone.now())
    row = OutboxMessage.objects.get()
    assert (row.state, row.attempts, row.last_error) == ("pending", 1, "Connection unexpectedly closed: timed out")
    use(settings, server.port)
    outbox.send_due(now=row.next_attempt_at)
    assert states() == {"a@example.org": "sent"}


def test_an_address_that_would_add_a_header_is_not_sent_and_does_not_stop_the_others(server, people):
    notify_address("x@example.org\nBcc: y@example.org", type=Type.INVITATION, subject="S", text="T", path="/x/")
    tell(people[:1])
    outbox.send_due(now=timezone.now())
    assert [message["To"] for message in server.messages] == ["a@example.org"]
    assert OutboxMessage.objects.get(address="x@example.org\nBcc: y@example.org").last_error != ""


# Transactions, brokers, workers


def test_a_change_that_is_rolled_back_tells_nobody(server, people):
    with transaction.atomic():
        tell(people)
        transaction.set_rollback(True)
    outbox.send_due(now=timezone.now())
    assert (Notification.objects.count(), OutboxMessage.objects.count(), server.messages) == (0, 0, [])


def test_a_broker_that_is_down_loses_nothing(server, people, monkeypatch, django_capture_on_commit_callbacks):
    def refuse(*args, **kwargs):
        raise OSError("no broker")

    monkeypatch.setattr(app, "send_task", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        tell(people[:1])
    assert server.messages == []
    tasks.send_outbox()  # the beat, within ten seconds
    assert [message["To"] for message in server.messages] == ["a@example.org"]


def test_a_worker_that_dies_after_the_server_took_the_mail_sends_it_twice_under_one_id(server, people):
    tell(people[:1])
    start = timezone.now()
    lost = outbox.claim("mail", now=start)
    outbox.mail.compose(lost, connection=outbox.get_connection()).send()  # and then the worker is killed
    outbox.send_due(now=start)
    assert len(server.messages) == 1  # nobody else takes a claimed message
    outbox.send_due(now=start + outbox.CLAIM)
    first, second = (message["Message-ID"] for message in server.messages)
    assert first == second == f"<outbox-{lost.pk}@127.0.0.1>"
    assert states() == {"a@example.org": "sent"}


def test_a_late_worker_changes_nothing(server, people):
    tell(people[:1])
    start = timezone.now()
    late = outbox.claim("mail", now=start)
    outbox.send_due(now=start + outbox.CLAIM)
    assert outbox._settle(late, State.BOUNCED, now=start, error="late") is False
    outbox._try_later(late, now=start, error="late")
    row = OutboxMessage.objects.get()
    assert (row.state, row.last_error) == ("sent", "")


@pytest.mark.django_db(transaction=True)
def test_four_workers_send_each_mail_once(settings):
    people = [factories.user(str(number), email=f"p{number}@example.org") for number in range(12)]
    with mail_server() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
        with transaction.atomic():  # the ring of this commit reaches nobody
            transaction.on_commit(lambda: None)
            OutboxMessage.objects.bulk_create(
                OutboxMessage(
                    key=person.email, channel="mail", type="account", address=person.email, subject="S", path="/"
                )
                for person in people
            )
        use(settings, server.port)
        barrier = threading.Barrier(4)

        def work():
            barrier.wait()
            outbox.send_due(now=timezone.now())
            connection.close()

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert sorted(message["To"] for message in server.messages) == sorted(person.email for person in people)
    assert set(states().values()) == {"sent"}


# Operators


@pytest.fixture
def bounced(server, people):
    server.refusals["a@example.org"] = ["550 No"]
    tell(people[:1])
    outbox.send_due(now=timezone.now())
    return OutboxMessage.objects.get()


def test_an_operator_sends_a_bounced_mail_again_and_it_is_on_record(bounced, server, operator, sign_in):
    assert sign_in(operator).post(reverse("outbox:retry", args=[bounced.pk])).status_code == 302
    outbox.send_due(now=timezone.now())
    assert [message["To"] for message in server.messages] == ["a@example.org"]
    assert AuditEvent.objects.filter(verb="message.retried", actor_id=operator.pk, subject_id=bounced.pk).count() == 1


def test_an_operator_gives_a_message_up(people, operator, sign_in):
    tell(people[:1])
    row = OutboxMessage.objects.get()
    assert sign_in(operator).post(reverse("outbox:give_up", args=[row.pk])).status_code == 302
    assert states() == {"a@example.org": "dead"}
    assert AuditEvent.objects.get(verb="message.given_up").actor_id == operator.pk
    with pytest.raises(TransitionNotAllowed):
        outbox.give_up(row, by=operator, now=timezone.now())


def test_only_operators_change_the_outbox(bounced, auditor, chair, researcher):
    for person in (auditor, chair, researcher):
        for act in (outbox.retry, outbox.give_up):
            with pytest.raises(NotAllowed):
                act(bounced, by=person, now=timezone.now())
    assert states() == {"a@example.org": "bounced"}


def test_what_failed_loses_its_text_after_a_week_and_its_row_after_three_months(bounced, operator):
    start = bounced.settled_at
    outbox.tidy(now=start + timedelta(days=7))
    bounced.refresh_from_db()
    assert bounced.has_body
    outbox.tidy(now=start + timedelta(days=7, seconds=1))
    bounced.refresh_from_db()
    assert (bounced.has_body, bounced.state) == (False, "bounced")
    with pytest.raises(outbox.BodyCleared):
        outbox.retry(bounced, by=operator, now=timezone.now())
    outbox.tidy(now=start + timedelta(days=90, seconds=1))
    assert OutboxMessage.objects.count() == 0


def test_the_outbox_costs_the_same_for_any_number(people, operator, sign_in, django_assert_num_queries):
    browser = sign_in(operator)
    for count in (1, 39):
        for number in range(count):
            notify_address(f"n{number}@example.org", type=Type.ACCOUNT, subject="S", text="T", path="/x/")
        with django_assert_num_queries(8):  # session, person, two rights, rows, totals, roles and unread for the menu
            browser.get(reverse("outbox:list"))


# Constraints


def test_the_database_refuses_impossible_messages(people):
    tell(people[:1])
    for constraint, changes in [
        ("outbox_state_known", {"state": "lost", "next_attempt_at": None, "settled_at": timezone.now()}),
        ("outbox_has_one_recipient", {"address": ""}),
        ("outbox_waits_or_is_settled", {"next_attempt_at": None}),
        ("outbox_sent_holds_no_body", {"state": "sent", "next_attempt_at": None, "settled_at": timezone.now()}),
    ]:
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            OutboxMessage.objects.update(**changes)
    with pytest.raises(IntegrityError, match="key"), transaction.atomic():
        services.put("x@example.org", type=Type.ACCOUNT, subject="S", text="T", key=OutboxMessage.objects.get().key)


def test_erasure_leaves_nothing_of_a_person_and_everything_of_others(server, people, settings):
    ann, ben, _ = people
    ann.name = "Ann Li"
    ann.save()
    Mail.objects.create(recipient="a@example.org", subject="Hello", body="-")
    Mail.objects.create(recipient="b@example.org", subject="Ann Li has left", body="-")
    Mail.objects.create(recipient="b@example.org", subject="Ann Lisbon stays", body="-")
    tell([ann, ben])
    services.prefer(ann, {Type.CONTRIBUTION: "daily"})
    services.erase(ann, ["a@example.org"])
    assert [mail.subject for mail in Mail.objects.all()] == ["Ann Lisbon stays"]
    assert list(Notification.objects.values_list("recipient", flat=True)) == [ben.pk]
    assert states() == {"b@example.org": ANY}
    assert ann.preferences.count() == 0
