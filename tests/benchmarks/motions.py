"""Run inside the running portal: a docket as long as wanted, and somebody on the board who reads it."""

from datetime import timedelta

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction
from django.utils import timezone

from governance.board import docket
from governance.board import services as boards
from governance.board.case_models import Declaration
from governance.board.models import Motion, Vote
from portal.accounts.models import User
from portal.institutions.models import Institution

VOTED = 3  # of every four motions this many have two ballots; the rest none


@transaction.atomic
def fill(count: int) -> int:
    """Bring the docket to `count` motions on applications, the oldest first; return how many there are."""
    first = Motion.objects.filter(kind="admit_institution", status="open").earliest("pk")  # of the demonstration
    applicant, now = first.institution, timezone.now()
    assert applicant is not None
    missing = range(Motion.objects.undecided().count(), count)
    known = {field.attname: getattr(applicant, field.attname) for field in Institution._meta.concrete_fields}
    known |= {"id": None, "ror_id": ""}
    applicants = Institution.objects.bulk_create(
        Institution(**known | {"name": f"Bench Hospital {number}", "slug": f"bench-hospital-{number}"})
        for number in missing
    )
    asked = {field.attname: getattr(first, field.attname) for field in Motion._meta.concrete_fields}
    motions = Motion.objects.bulk_create(
        Motion(
            **asked
            | {"id": None, "institution_id": row.pk, "title": f"Admit {row.name}"}
            | {"opened_at": now - timedelta(minutes=place), "closes_at": now + timedelta(days=14)}
        )
        for place, row in enumerate(applicants)
    )
    _vote([motion for place, motion in enumerate(motions) if place % 4 < VOTED])
    return Motion.objects.undecided().count()


def nearly_last() -> int:
    """Return the motion behind which the docket's last full page lies."""
    return list(Motion.objects.undecided().values_list("pk", flat=True))[-docket.PAGE_SIZE - 1]


def _vote(motions: list[Motion]) -> None:
    """Let two members of the board vote for each."""
    voters, now = list(boards.electorate(motions[0])[:2]) if motions else [], timezone.now()
    pairs = [(motion, voter) for motion in motions for voter in voters]
    Declaration.objects.bulk_create(
        Declaration(motion=motion, member=voter, answer="none", declared_at=now) for motion, voter in pairs
    )
    Vote.objects.bulk_create(
        Vote(motion=motion, voter=voter, subject_institution_id=motion.institution_id, choice="for", cast_at=now)
        for motion, voter in pairs
    )


def session_of(role: str) -> str:
    """Sign a person of this role in; return the session's key."""
    return session_for(User.objects.filter(consortium_roles__role=role).earliest("pk"))


def session_for(user: User) -> str:
    """Sign somebody in; return the session's key."""
    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.create()
    assert store.session_key
    return store.session_key
