"""What happened before a walk in the browser begins, or while it goes on, made inside the running portal."""

from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify

from governance.board import services as boards
from governance.board.models import Motion
from portal.accounts import terms
from portal.accounts.models import User
from portal.agreements import services as agreements
from portal.agreements.models import Agreement
from portal.institutions import memberships
from portal.institutions import services as institutions
from portal.institutions.models import Membership
from tests import factories as make

ADDED = "A site that leaves says so three months before."


@transaction.atomic
def member(*, name: str, investigator: list[str], official: list[str], password: str) -> str:
    """A member that has signed nothing; return its slug. People are name and address, with no second factor yet."""
    leads, signs = (_person(*person, password=password) for person in (investigator, official))
    institution = make.admitted_institution(name, by=leads)
    _, secret = memberships.invite(
        institution, email=signs.email, role=Membership.Role.SIGNING_OFFICIAL, by=leads, now=timezone.now()
    )
    memberships.accept_invitation(secret, by=signs, verified_emails={signs.email}, now=timezone.now())
    return institution.slug


def _person(name: str, email: str, *, password: str) -> User:
    person = make.user(name, email=email, password=password)
    newest = terms.current()
    if newest is not None:
        terms.accept(newest, by=person, now=timezone.now())
    return person


@transaction.atomic
def expired_member(*, name: str, investigator_email: str, months: int) -> list[str]:
    """A member whose agreement, signed so many months ago, is over; return the addresses of case and receipt."""
    institution = make.admitted_institution(name, by=User.objects.get(email=investigator_email))
    then = timezone.now() - timedelta(days=31 * months)
    case = make.signed_case(make.sent_case(institution, _agreement(), now=then), now=then)
    agreements.sweep(now=timezone.now())
    return [case.get_absolute_url(), case.receipt_url]


def publish(*, days_ago: int) -> list[int]:
    """Publish a material version of the data-use agreement as of some days ago; return its number and the last one."""
    before = agreements.newest_of(_agreement())
    assert before is not None
    version = agreements.publish(
        _agreement(),
        text=f"{before.text}\n{ADDED}\n",
        change_note="Leaving is announced.",
        side_notes=before.side_notes,
        by=None,
        now=timezone.now() - timedelta(days=days_ago),
    )
    return [version.version, before.version]


def _agreement() -> Agreement:
    return Agreement.objects.get(slug="data-use-agreement")


@transaction.atomic
def applicant(*, name: str, member_email: str = "") -> str:
    """An application before the board; a member of the board may belong to the applicant. Return its motion's page."""
    lead = make.enrol(_person(f"Investigator of {name}", f"{slugify(name)}@site.example", password="a long password"))
    institution = institutions.apply(make.draft_institution(name, by=lead), by=lead, now=timezone.now())
    if member_email:
        make.join(institution, User.objects.get(email=member_email))
    motion = boards.refer_institution(institution.pk, now=timezone.now())
    assert motion is not None
    return motion.get_absolute_url()


def days_pass(*, motion: str, days: int) -> str:
    """Let the board's sweep look at one motion as if it were so many days later; return its status."""
    row = Motion.objects.get(pk=int(motion.rstrip("/").rpartition("/")[2]))
    boards.close_due(row.pk, now=timezone.now() + timedelta(days=days))
    row.refresh_from_db()
    return row.status
