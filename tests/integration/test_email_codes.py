"""allauth's mails and the outbox; an address is confirmed by its link or six digits; strangers learn nothing."""

import re
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.core import mail as sent_mail
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from portal.accounts import email_codes
from portal.accounts.models import EmailCode, User
from portal.notifications import outbox
from portal.notifications.models import OutboxMessage
from tests import factories

SENT, CODE, AGAIN = "/accounts/confirm-email/", "/account/email-code/", "/account/email-code/again/"


@pytest.fixture(autouse=True)
def _empty_throttles(db):
    cache.clear()


def sign_up(client, email="new@example.org"):
    fields = {"name": "Nia New", "email": email, "password1": factories.PASSWORD}
    answer = client.post(reverse("account_signup"), fields)
    assert answer.headers["Location"] == SENT
    return client.get(SENT)


def deliver():
    outbox.send_due(now=timezone.now())
    return sent_mail.outbox[-1]


def digits_of(message):
    return re.search(r"\b(\d{6})\b", message.body)[1]


def link_of(message):
    return re.search(r"https?://[^/]+(/accounts/confirm-email/\S+)", message.body)[1]


def is_verified(email="new@example.org"):
    return EmailAddress.objects.get(email=email).verified


def wrong(digits):
    return f"{(int(digits) + 1) % 10**6:06d}"


# The mail


def test_a_sign_up_mails_a_link_and_a_code_as_text_and_html(client):
    sign_up(client)
    message = deliver()
    html = message.alternatives[0].content
    assert (message.to, message.subject) == (["new@example.org"], "Confirm your address on Global RETFound")
    for form in (message.body, html):
        assert link_of(message) in form
        assert digits_of(message) in form
    row = OutboxMessage.objects.get()
    assert (row.state, row.text, row.html, row.user.email) == ("sent", "", "", "new@example.org")


def test_no_row_holds_the_digits(client):
    sign_up(client)
    digits = digits_of(deliver())
    values = [*EmailCode.objects.values().get().values(), *OutboxMessage.objects.values().get().values()]
    assert [value for value in values if digits in str(value)] == []
    assert digits not in str(client.session.items())


def test_a_changed_password_is_told_to_its_owner(client):
    person = factories.user("Pia", email="pia@example.org", password=factories.PASSWORD)
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    fields = {"oldpassword": factories.PASSWORD, "password1": "another long phrase", "password2": "another long phrase"}
    client.post(reverse("account_change_password"), fields)
    message = deliver()
    assert (message.to, message.subject) == (["pia@example.org"], "Your password was changed")
    assert "127.0.0.1" in message.body


def test_a_mail_server_that_is_down_does_not_fail_the_sign_up(client, settings):
    settings.EMAIL_BACKEND, settings.EMAIL_PORT = "django.core.mail.backends.smtp.EmailBackend", 1
    sign_up(client)
    outbox.send_due(now=timezone.now())
    page = client.get(SENT).text
    assert "Still trying" in page
    assert "Next attempt:" in page


# The page that waits for it


def test_the_page_says_what_became_of_the_mail(client):
    page = sign_up(client)
    assert "On its way" in page.text
    deliver()
    assert "Handed to your mail server" in client.get(SENT).text
    OutboxMessage.objects.update(state="bounced", last_error="550 No such user")
    assert "550 No such user" in client.get(SENT).text


def test_another_browser_sees_nothing_of_it(client, sign_in, researcher):
    sign_up(client)
    for browser in (sign_in(researcher), type(client)()):
        page = browser.get(SENT).text
        assert "new@example.org" not in page
        assert "On its way" not in page


def masked(page):
    """Return a page without what differs between any two browsers: token and address."""
    return re.sub(r'"[\w-]{64}"|[\w-]+@example\.org', "", page.text)


def test_a_stranger_cannot_tell_whether_an_account_exists(client, db):
    factories.user("Owner", email="owner@example.org", password=factories.PASSWORD)
    stranger, newcomer = type(client)(), type(client)()
    assert masked(sign_up(stranger, "owner@example.org")) == masked(sign_up(newcomer, "nobody@example.org"))
    outbox.send_due(now=timezone.now())
    told = {message.to[0]: message for message in sent_mail.outbox}
    assert re.search(r"\b\d{6}\b", told["owner@example.org"].body) is None
    for url in (SENT, CODE):
        assert masked(stranger.get(url)) == masked(newcomer.get(url))
    tries = wrong(digits_of(told["nobody@example.org"]))
    for _ in range(6):
        answers = [browser.post(CODE, {"code": tries}) for browser in (stranger, newcomer)]
        assert [answer.status_code for answer in answers] == [422, 422]
        assert masked(answers[0]) == masked(answers[1])
    later = timezone.now() - timedelta(seconds=61)
    OutboxMessage.objects.update(created_at=later)
    cache.clear()
    for browser in (stranger, newcomer):
        assert browser.post(AGAIN).headers["Location"] == SENT
    assert masked(stranger.get(SENT)) == masked(newcomer.get(SENT))
    outbox.send_due(now=timezone.now())
    assert (
        sorted(message.to[0] for message in sent_mail.outbox) == ["nobody@example.org"] * 2 + ["owner@example.org"] * 2
    )


def test_the_mail_is_sent_again_after_a_minute_and_the_older_code_ends(client):
    sign_up(client)
    old = digits_of(deliver())
    client.post(AGAIN)
    assert "less than a minute ago" in client.get(SENT).text
    OutboxMessage.objects.update(created_at=timezone.now() - timedelta(seconds=61))
    cache.clear()
    client.post(AGAIN)
    new = digits_of(deliver())
    assert len(sent_mail.outbox) == 2
    if old != new:
        client.post(CODE, {"code": old})
        assert not is_verified()
    client.post(CODE, {"code": new})
    assert is_verified()


def test_a_browser_that_waits_for_nothing_is_sent_to_sign_in(client):
    assert client.post(AGAIN).headers["Location"] == reverse("account_login")
    assert client.get(AGAIN).status_code == 405
    assert client.post(CODE, {"code": "123456"}).status_code == 422


# Link and digits


def test_a_link_that_a_scanner_follows_changes_nothing(client):
    sign_up(client)
    link = link_of(deliver())
    for method in (client.get, client.head, type(client)().get):
        assert method(link).status_code == 200
        assert not is_verified()
    client.post(link)
    assert is_verified()


def test_the_digits_confirm_and_sign_in_as_the_link_does(client):
    sign_up(client)
    digits = digits_of(deliver())
    assert client.get(CODE).status_code == 200
    assert not is_verified()
    answer = client.post(CODE, {"code": f" {digits[:3]} {digits[3:]} "})
    assert answer.status_code == 302
    assert is_verified()
    assert client.session["_auth_user_id"] == str(User.objects.get(email="new@example.org").pk)
    other = type(client)()
    sign_up(other, "second@example.org")
    other.post(link_of(deliver()))
    assert other.session["_auth_user_id"] == str(User.objects.get(email="second@example.org").pk)


def test_the_digits_work_in_the_browser_that_asked_only(client):
    sign_up(client)
    digits = digits_of(deliver())
    other = type(client)()
    sign_up(other, "second@example.org")
    assert other.post(CODE, {"code": digits}).status_code == 422
    assert (is_verified(), is_verified("second@example.org")) == (False, False)


def test_five_wrong_codes_end_it(client):
    sign_up(client)
    digits = digits_of(deliver())
    for left in (4, 3, 2, 1, 0):
        assert f"You can try {left} more times" in client.post(CODE, {"code": wrong(digits)}).text
    assert "This code is over" in client.post(CODE, {"code": digits}).text
    assert not is_verified()


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "abcdef", "１２３４５６x"])
def test_what_is_no_code_costs_no_attempt(client, typed):
    sign_up(client)
    answer = client.post(CODE, {"code": typed})
    assert (answer.status_code, EmailCode.objects.get().attempts) == (422, 0)


def test_a_code_is_over_after_fifteen_minutes_and_after_its_use(client):
    sign_up(client)
    digits, row, now = digits_of(deliver()), EmailCode.objects.get(), timezone.now()
    with pytest.raises(email_codes.CodeRefused, match="over"):
        email_codes.redeem(row.pk, digits, now=row.expires_at)
    assert email_codes.redeem(row.pk, digits, now=now).email == "new@example.org"
    with pytest.raises(email_codes.CodeRefused, match="over"):
        email_codes.redeem(row.pk, digits, now=now)


def test_there_are_ten_codes_a_day_then_only_links(client):
    sign_up(client)
    address, now = EmailAddress.objects.get(), timezone.now()
    rows = [email_codes.issue(address, now=now)[0] for _ in range(10)]
    assert [row is None for row in rows] == [False] * 9 + [True]
    assert email_codes.issue(address, now=now + timedelta(days=2))[0] is not None


def test_old_codes_are_dropped(client):
    sign_up(client)
    row = EmailCode.objects.get()
    email_codes.tidy(now=row.expires_at + timedelta(days=1))
    assert EmailCode.objects.count() == 1
    email_codes.tidy(now=row.expires_at + timedelta(days=1, seconds=1))
    assert EmailCode.objects.count() == 0


def test_the_database_refuses_a_sixth_attempt_and_a_used_decoy(client):
    sign_up(client)
    with pytest.raises(IntegrityError, match="email_code_five_attempts"), transaction.atomic():
        EmailCode.objects.update(attempts=6)
    with pytest.raises(IntegrityError, match="email_code_decoy_is_never_used"), transaction.atomic():
        EmailCode.objects.update(email_address=None, used_at=timezone.now())
