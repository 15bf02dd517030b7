"""Erasing an account: put one person through everything, erase, then look for them in every column of every table."""

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import connection
from django.db.models import ProtectedError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from governance.board import services as boards
from governance.board.models import Motion
from governance.releases import services as releases
from portal import erasure
from portal.accounts import services, terms
from portal.accounts.models import User
from portal.agreements import services as agreements
from portal.audit.models import AuditEvent
from portal.institutions import joining, memberships
from portal.institutions import services as institutions
from portal.institutions.models import Invitation, Membership
from portal.notifications.models import Mail
from portal.notifications.services import notify
from portal.notifications.types import Type
from tests import factories, publishing
from tests.races import beside, then, until_somebody_waits, while_locked

NAME, EMAIL, SECOND = "Xiomara Ōquzwelt-Brandão", "xiomara.oquz@zwelt.example", "x.private@zwelt.example"
IP = "203.0.113.77"
TRACES = [NAME, "Ōquzwelt", EMAIL, SECOND, "xiomara", IP]
DELETE = reverse("account_erase")

# The legal record: who signed and who accepted a licence, under the name that was typed, and from where.
LEGAL_RECORD = {
    ("agreements_signature", "printed_name"),
    ("agreements_signature", "ip_address"),
    ("releases_licenseacceptance", "typed_name"),
}


@pytest.fixture(autouse=True)
def _mailbox(settings):
    cache.clear()
    settings.EMAIL_BACKEND = "portal.notifications.backends.MailboxBackend"


def columns_with(text: str) -> set[tuple[str, str]]:
    """Return every column of the database in which the text stands, whatever the column's type."""
    found = set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c "
            "JOIN information_schema.tables t USING (table_schema, table_name) "
            "WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'"
        )
        for table, column, kind in cursor.fetchall():
            value = f"encode(\"{column}\", 'escape')" if kind == "bytea" else f'"{column}"::text'
            cursor.execute(f'SELECT EXISTS (SELECT 1 FROM "{table}" WHERE {value} ILIKE %s)', [f"%{text}%"])
            if cursor.fetchone()[0]:
                found.add((table, column))
    return found


def traces() -> set[tuple[str, str]]:
    """Return the columns and the sessions that hold any trace of the person."""
    found = set().union(*(columns_with(text) for text in TRACES))
    for session in Session.objects.all():
        if any(text in str(session.get_decoded()) for text in TRACES):
            found.add(("django_session", "decoded"))
    return found


@pytest.fixture
def client(db, django_capture_on_commit_callbacks) -> Client:
    """The person has signed up in a browser, at an address of the internet."""
    terms.publish("# Terms", change_note="First.", by=None, now=timezone.now())
    browser = Client(REMOTE_ADDR=IP)
    form = {"name": NAME, "email": EMAIL, "password1": factories.PASSWORD, "agree": "on"}
    with django_capture_on_commit_callbacks(execute=True):
        browser.post(reverse("account_signup"), form)
        EmailAddress.objects.filter(email=EMAIL).update(verified=True)
        browser.post(reverse("account_login"), {"login": EMAIL, "password": factories.PASSWORD})
    assert UserSession.objects.get().ip == IP
    return browser


@pytest.fixture
def person(client) -> User:
    return User.objects.get(email=EMAIL)


def live(person: User, institution, operator, board) -> None:
    """Invitation, role, signature, vote, licence, token, kit, second address, factor, iD; told to others by name."""
    now = timezone.now()
    manager = factories.person_of(institution)
    for role in (Membership.Role.STEWARD, Membership.Role.SIGNING_OFFICIAL):
        _, secret = memberships.invite(institution, email=EMAIL.upper(), role=role, by=manager, now=now)
        memberships.accept_invitation(secret, by=person, verified_emails={EMAIL}, now=now)
    memberships.invite(institution, email=SECOND, role=Membership.Role.MEMBER, by=manager, now=now)
    memberships.invite(institution, email="other@example.org", role=Membership.Role.MEMBER, by=person, now=now)
    case = factories.sent_case(institution, factories.agreement(institution_programme(), slug="annex"))
    factories.sign_next(case)
    agreements.sign(
        case,
        by=person,
        typed_name=NAME,
        authority=agreements.AUTHORITY["signing_official"],
        authentication=["password"],
        ip_address=IP,
        user_agent="Browser",
        now=now,
    )
    factories.sign_next(case)
    services.appoint(person, "board_member", by=None, now=now)
    applicant = factories.applied_institution("Lake Hospital", country="UG")
    motion = boards.refer_institution(applicant.pk, now=now)
    boards.declare(motion, answer="stay", note="I know its director.", by=person, now=now)
    boards.cast_vote(motion, choice="for", by=person, now=now)
    release = publishing.released_model(operator)
    releases.accept_license(
        release,
        license_sha256=release.license.sha256,
        typed_name=NAME,
        institution_name="Moi Eye Clinic",
        purpose="A thesis.",
        channel="browser",
        by=person,
        now=now,
    )
    services.create_token(person, name=f"Laptop of {NAME}", now=now)
    login, device_code = services.begin_device_login(client_name="xiomara-laptop", now=now)
    services.answer_device_login(login.user_code, approve=True, by=person, now=now)
    services.redeem_device_login(device_code, now=now)
    EmailAddress.objects.create(user=person, email=SECOND, verified=True)
    factories.enrol(person)
    SocialAccount.objects.create(user=person, provider="orcid", uid="0000-0002-1825-0097")
    services.rename(person, name=NAME)
    text = f"{{person:{person.pk}}} wrote to you."
    notify([operator], type=Type.ACCOUNT, subject=text, text=text, path="/")


def institution_programme():
    return factories.Programme.objects.earliest("pk")


@pytest.fixture
def lived(person, programme, operator, board, django_capture_on_commit_callbacks) -> User:
    institution = factories.admitted_institution("Moi Eye Clinic", country="KE")
    with django_capture_on_commit_callbacks(execute=True):
        live(person, institution, operator, board)
    person.refresh_from_db()
    return person


def test_nothing_names_the_erased_outside_the_legal_record(lived, client):
    before = traces()
    assert LEGAL_RECORD < before
    for table in ("accounts_user", "account_emailaddress", "institutions_invitation", "notifications_mail"):
        assert table in {name for name, _ in before}  # data that could leak
    form = {"email": EMAIL, "agree": "on", "password": factories.PASSWORD, "code": factories.totp_code(lived)}
    page = client.post(DELETE, form)
    assert (page.status_code, "Your account is erased" in page.text) == (200, True)
    assert traces() == LEGAL_RECORD
    lived.refresh_from_db()
    assert (lived.name, lived.email, lived.is_active) == ("Former member", f"erased-{lived.pk}@erased.invalid", False)
    for model in (EmailAddress, Authenticator, SocialAccount, UserSession):
        assert not model.objects.filter(user=lived).exists()
    assert not lived.memberships.current().exists()
    assert not lived.consortium_roles.current().exists()


def test_what_was_signed_voted_and_accepted_stays(lived, client):
    stays = dict(erasure.stays(lived))
    assert {"signature": 1, "vote": 1, "license acceptance": 1, "terms acceptance": 1}.items() <= stays.items()
    assert "signature" in client.get(DELETE).text
    signature = lived.signatures.get()
    erasure.erase(lived, by=lived, now=timezone.now())
    signature.refresh_from_db()
    assert (signature.signer_id, signature.printed_name) == (lived.pk, NAME)
    assert signature.text_sha256 == agreements.text_sha256(signature.request.text)
    assert Client().get(signature.request.receipt_url).status_code == 200
    assert Motion.objects.get(votes__voter=lived).votes.count() == 1
    assert not Invitation.objects.filter(email__icontains="zwelt").exists()


def test_the_log_calls_the_erased_a_former_member(lived, sign_in, auditor):
    terms.accept(terms.current(), by=auditor, now=timezone.now())
    erasure.erase(lived, by=lived, now=timezone.now())
    page = sign_in(auditor).get(reverse("audit:log"), {"verb": "account.erased"})
    assert [event.sentence for event in page.context["events"]] == [
        "a former member erased the account of a former member"
    ]
    events = AuditEvent.objects.filter(verb="membership.ended", actor_id=lived.pk)
    assert events.count() == 2


def test_the_erased_cannot_come_back(lived, client):
    erasure.erase(lived, by=lived, now=timezone.now())
    assert client.get(reverse("accounts:profile")).status_code == 302
    Client().post(reverse("account_login"), {"login": EMAIL, "password": factories.PASSWORD})
    services.reopen_account(lived, by=lived)
    lived.refresh_from_db()
    assert lived.is_active is False
    assert erasure.erase(lived, by=lived, now=timezone.now()).erased_at == lived.erased_at  # again changes nothing


def test_a_new_account_may_have_the_address_again(lived):
    erasure.erase(lived, by=lived, now=timezone.now())
    assert factories.user("Somebody else", email=EMAIL).pk != lived.pk


def test_nobody_takes_the_address_that_an_erasure_needs(db):
    person = factories.user("Ann")
    form = {"name": "Mallory", "email": f"Erased-{person.pk}@erased.INVALID", "password1": factories.PASSWORD}
    page = Client().post(reverse("account_signup"), form)
    assert list(page.context["form"].errors) == ["email"]
    assert erasure.erase(person, by=person, now=timezone.now()).email == f"erased-{person.pk}@erased.invalid"


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"email": "other@example.org"}, "email"), ({"agree": ""}, "agree"), ({"password": "wrong"}, "password")],
)
def test_nothing_is_erased_without_address_consent_and_proof(person, client, changes, field):
    form = {"email": EMAIL, "agree": "on", "password": factories.PASSWORD}
    page = client.post(DELETE, form | changes)
    assert (page.status_code, list(page.context["form"].errors)) == (422, [field])
    assert client.get(DELETE).status_code == 200
    assert User.objects.get(pk=person.pk).erased_at is None


def test_who_alone_manages_an_institution_cannot_go(programme, sign_in):
    institution = factories.member_institution("Moi Eye Clinic")
    investigator = factories.person_of(institution)
    (hold,) = erasure.holds(investigator)
    assert hold.url == reverse("institutions:people", args=[institution.slug])
    assert hold.reason in sign_in(investigator).get(DELETE).text
    with pytest.raises(erasure.CannotErase, match="only one who manages Moi Eye Clinic"):
        erasure.erase(investigator, by=investigator, now=timezone.now())
    factories.person_of(institution, Membership.Role.STEWARD)
    assert erasure.holds(investigator) == []


def test_a_draft_and_a_withdrawn_application_hold_nobody(programme):
    institution = factories.draft_institution("Moi Eye Clinic")
    investigator = factories.person_of(institution)
    assert erasure.holds(investigator) == []
    institutions.withdraw(institution, by=investigator, now=timezone.now())
    assert erasure.holds(investigator) == []


def test_chair_and_last_operator_cannot_go(chair, board_member, operator):
    assert [len(erasure.holds(person)) for person in (chair, board_member, operator)] == [1, 0, 1]
    factories.consortium_person("Second Operator", "operator")
    assert erasure.holds(operator) == []


def test_the_chair_of_one_programme_stands_in_for_no_chair_of_the_consortium(chair, programme):
    own = factories.user("Chair of Retina")
    services.appoint(own, "chair", programme=programme, by=None, now=timezone.now())
    assert [len(erasure.holds(person)) for person in (chair, own)] == [1, 0]


def test_evidence_protects_the_row_of_its_person(lived):
    with pytest.raises(ProtectedError):
        lived.delete()
    assert Mail.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("who", ["operator", "manager"])
def test_of_two_who_leave_at_once_the_last_stays(programme, who):
    if who == "operator":
        people = [factories.consortium_person(f"Operator {number}", "operator") for number in range(2)]
    else:
        institution = factories.member_institution("Lake Hospital")
        people = [factories.person_of(institution, role) for role in ("principal_investigator", "steward")]
    first, second = [lambda person=person: erasure.erase(person, by=person, now=timezone.now()) for person in people]
    refused = while_locked(first, second)
    assert isinstance(refused, erasure.CannotErase)
    left = [User.objects.get(pk=person.pk).erased_at is None for person in people]
    assert left == [False, True]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["role", "seat"])
def test_who_is_erased_at_this_moment_takes_no_role(programme, what):
    institution, now = factories.member_institution("Lake Hospital"), timezone.now()
    lead, person = (factories.person_of(institution, role) for role in ("principal_investigator", "steward"))
    give = {
        "role": lambda: memberships.add_role(institution, person, Membership.Role.MEMBER, by=lead, now=now),
        "seat": lambda: services.appoint(person, "operator", by=None, now=now),
    }[what]
    refused = while_locked(lambda: erasure.erase(person, by=person, now=now), give)
    assert isinstance(refused, services.AccountErased)
    assert (person.memberships.current().count(), person.consortium_roles.current().count()) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_a_manager_accepts_whoever_asked_and_is_erased_at_this_moment(programme, monkeypatch):
    """The erasure holds the person and goes on to the request; the answer must not hold the request before it."""
    institution, person, now = factories.member_institution("Lake Hospital"), factories.user("Ann"), timezone.now()
    lead = factories.person_of(institution)
    row = joining.ask(institution, role="member", message="", by=person, now=now)
    thread, refused = beside(lambda: joining.accept(row, role="member", by=lead, now=now))
    then(monkeypatch, erasure, "holds", lambda: (thread.start(), until_somebody_waits()))
    erasure.erase(person, by=person, now=now)
    thread.join()
    assert [type(exc) for exc in refused] == [services.AccountErased]
    assert not person.memberships.current().exists()
