"""The mailbox page of the embedded demonstration."""

import pytest
from django.core.mail import EmailMessage
from django.urls import reverse

from portal.notifications.backends import MailboxBackend
from portal.notifications.models import Mail
from portal.notifications.services import notify
from portal.notifications.types import Type
from tests import factories


@pytest.fixture(autouse=True)
def _page(settings, db):
    settings.MAILBOX_PAGE = True


def deliver(subject, *to, body="Hello"):
    MailboxBackend().send_messages([EmailMessage(subject, body, to=to)])


def subjects(response):
    return [mail.subject for mail in response.context["mails"]]


def test_each_recipient_gets_a_copy_and_the_newest_is_first(client):
    deliver("First", "a@example.org", "b@example.org")
    deliver("Second", "b@example.org")
    page = client.get(reverse("notifications:mailbox"))
    assert subjects(page) == ["Second", "First", "First"]
    assert "exists only in the embedded demonstration" in page.text
    assert subjects(client.get(reverse("notifications:mailbox"), {"to": "A@example"})) == ["First"]
    assert subjects(client.get(reverse("notifications:mailbox"), {"to": "nobody"})) == []


def test_links_can_be_clicked_and_nothing_runs(client):
    deliver(
        "Confirm", "a@example.org", body="Go: http://127.0.0.1:8000/accounts/confirm-email/x:1/\n<script>1</script>"
    )
    page = client.get(reverse("notifications:mail", args=[Mail.objects.get().pk])).text
    assert '<a href="http://127.0.0.1:8000/accounts/confirm-email/x:1/"' in page
    assert "&lt;script&gt;1" in page


def test_older_mail_goes_by_number(client, monkeypatch):
    monkeypatch.setattr("portal.notifications.views.PAGE_SIZE", 2)
    for number in range(3):
        deliver(str(number), "a@example.org")
    first = client.get(reverse("notifications:mailbox"))
    second = client.get(reverse("notifications:mailbox"), {"before": first.context["before"]})
    assert (subjects(first), subjects(second)) == (["2", "1"], ["0"])


def test_there_is_no_mailbox_page_elsewhere(client, settings):
    deliver("Secret link", "a@example.org")
    settings.MAILBOX_PAGE = False
    for url in (reverse("notifications:mailbox"), reverse("notifications:mail", args=[Mail.objects.get().pk])):
        response = client.get(url)
        assert response.status_code == 404
        assert "Secret link" not in response.text


def test_a_notice_is_mailed_once_to_each_after_the_commit(mailoutbox, settings, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        people = [factories.user(letter.upper(), email=f"{letter}@example.org") for letter in "ba"]
        notify([*people, people[0]], type=Type.APPLICATION, subject="S", text="T", path="/x/")
        assert mailoutbox == []
    assert [mail.to for mail in mailoutbox] == [["b@example.org"], ["a@example.org"]]
    assert f"{settings.PORTAL_URL}/x/" in mailoutbox[0].body
