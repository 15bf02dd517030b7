"""What happened before a walk in the browser begins, or while it goes on, made inside the running portal."""

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify

from contributions import attestations
from contributions import services as contributions
from contributions.models import Contribution
from governance.board import services as boards
from governance.board.models import Motion
from jobs.models import Run
from portal.accounts import terms
from portal.accounts.models import User
from portal.agreements import services as agreements
from portal.agreements.models import Agreement
from portal.institutions import memberships, signing_keys
from portal.institutions import services as institutions
from portal.institutions.models import Institution, Membership
from portal.programmes.models import BaseModel, Programme
from tests import attesting, contributing, hostile
from tests import factories as make

Role = Membership.Role

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


def hostile_files(*, name: str, canary: str) -> list[int]:
    """Let a member submit one contribution of each hostile content; return their numbers."""
    programme = Programme.objects.get(slug="retina")
    site = make.member_institution(name)
    key = attesting.key_of(name)
    official, steward = (make.person_of(site, role) for role in (Role.SIGNING_OFFICIAL, Role.STEWARD))
    registration = attesting.registration(name, site.slug)
    signing_keys.register(site, registration=registration, label="test", by=official, now=timezone.now())
    return [
        _submitted(site, programme.base_models.get(slug="fundus-64"), content, steward=steward, key=key)
        for content in hostile.contents(canary)
    ]


def _submitted(site: Institution, base: BaseModel, content: bytes, *, steward: User, key: Any) -> int:
    draft = contributing.draft(site, base, by=steward)
    contributing.upload(draft, content, by=steward)
    for kind, envelope in (
        ("signature", attesting.signature(content, key)),
        ("privacy", attesting.privacy(content, key)),
    ):
        attestations.attest(draft, kind=kind, envelope=envelope, by=steward, now=timezone.now())
    return contributions.submit(draft, by=steward, now=timezone.now()).pk


def outcomes(*, numbers: list[int]) -> list[list[str]]:
    """Return status, check that failed, its code and the worker of each contribution, once all are decided."""
    if Contribution.objects.filter(pk__in=numbers, status__in=["submitted", "validating"]).exists():
        return []
    runs = {run.subject_id: run for run in Run.objects.filter(kind=Run.Kind.VALIDATE, subject_id__in=numbers)}
    found = []
    for row in Contribution.objects.filter(pk__in=numbers).order_by("pk"):
        failed = row.check_results.filter(verdict="fail").first()
        code = [str(failed.number), failed.evidence.get("code", "")] if failed else ["", ""]
        found.append([row.status, *code, str(runs[row.pk].worker.pid), str(runs[row.pk].attempt)])
    return found
