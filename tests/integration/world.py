"""One of everything, for the access matrix: the values of the placeholders of its addresses."""

import itertools

from allauth.usersessions.models import UserSession
from django.utils import timezone

from contributions import services as contributions
from governance.benchmarks import services as benchmarks
from governance.board.models import Motion
from jobs import tasks
from jobs.models import Run
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.agreements.models import Signature
from portal.institutions import memberships
from portal.institutions.models import Institution, Membership
from portal.notifications.models import Mail
from portal.programmes.models import Programme
from tests import factories

Role = Membership.Role
_number = itertools.count(1)


def shared_objects(programme: Programme, *, operator: User) -> dict[str, object]:
    """What belongs to no institution."""
    release = factories.released_model(operator)
    task = factories.benchmark_task(programme)
    evaluation = benchmarks.record_evaluation(
        task, release.candidate, run_id=1, report=factories.evaluation_report(), now=timezone.now()
    )
    mail = Mail.objects.create(recipient="a@example.org", subject="Hello", body="http://localhost/")
    return {
        "release": release.slug,
        "candidate": factories.candidate(programme, slug="waiting").slug,
        "name": "SHA256SUMS",
        "spdx_id": release.license.spdx_id,
        "evaluation": evaluation.pk,
        "mail": mail.pk,
        "role": operator.consortium_roles.get().pk,
        "programme": programme.slug,
        "base_model": factories.base_model(programme).pk,
    }


def site_objects(institution: Institution) -> dict[str, object]:
    """What belongs to one institution and its people."""
    now, number = timezone.now(), next(_number)
    steward = factories.person_of(institution, Role.STEWARD)
    member = factories.person_of(institution, Role.MEMBER)
    reviewed = factories.reviewed_contribution(institution, b"some bytes %d" % number)
    evidence = contributions.add_evidence(
        reviewed, run_id=1, attempt=1, name="samples.png", content=b"\x89PNG\r\n\x1a\n"
    )
    draft = factories.draft_contribution(institution)
    file = factories.upload(draft, b"more bytes %d" % number)
    submitted = factories.submitted_contribution(institution, b"third bytes %d" % number)
    tasks.validate_contribution(contribution_id=submitted.pk)
    invitation, secret = memberships.invite(
        institution, email=f"new-{number}@example.org", role=Role.MEMBER, by=steward, now=now
    )
    accounts.create_token(steward, name="kit", now=now)
    return {
        "slug": institution.slug,
        "contribution": reviewed.pk,
        "draft": draft.pk,
        "file": file.pk,
        "evidence": evidence.pk,
        "motion": Motion.objects.get(contribution=reviewed).pk,
        "run": Run.objects.get(subject_id=submitted.pk).pk,
        "submitted": submitted.pk,
        "secret": secret,
        "invitation": invitation.pk,
        "membership": Membership.objects.get(user=member, institution=institution).pk,
        "token": steward.api_tokens.get().pk,
        "session": UserSession.objects.create(user=steward, ip="127.0.0.1", session_key=f"session-{number}").pk,
        "code": Signature.objects.get(institution=institution).receipt_code,
    }


def missing(own: dict[str, object]) -> dict[str, object]:
    """Values of the same form that stand for nothing."""
    return {name: 999_999_999 if isinstance(value, int) else "missing" for name, value in own.items()}
