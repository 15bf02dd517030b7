"""One of everything, for the access matrix: the values of the placeholders of its addresses."""

import itertools
from datetime import timedelta

from allauth.usersessions.models import UserSession
from django.utils import timezone

from contributions import credits, holds, incidents, room
from contributions import services as contributions
from contributions.models import Contribution
from governance.benchmarks import services as benchmarks
from governance.board import meetings
from governance.board import services as boards
from governance.board.models import Condition, Motion
from jobs import tasks
from jobs.models import Run
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.agreements import services as agreements
from portal.agreements.models import Agreement
from portal.audit import sequencer
from portal.audit.models import AuditLeaf, Checkpoint
from portal.institutions import documents, joining, memberships, signing_keys
from portal.institutions.models import Institution, Membership
from portal.notifications import webhooks
from portal.notifications.models import Mail
from portal.programmes.models import Programme
from tests import attesting, contributing, factories, publishing

Role = Membership.Role
_number = itertools.count(1)


def shared_objects(programme: Programme, *, operator: User) -> dict[str, object]:
    """What belongs to no institution."""
    release = publishing.released_model(operator)
    task = publishing.benchmark_task(programme)
    evaluation = benchmarks.record_evaluation(
        task, release.candidate, run_id=1, report=publishing.evaluation_report(), now=timezone.now()
    )
    applicant = factories.applied_institution("Khmer Eye Hospital", country="KH")
    declined = factories.declined_institution("Prairie Images", country="US")
    annex = factories.agreement(programme, slug="annex", covers=["images"])
    library = factories.agreement(programme, slug="library", covers=[])
    agreements.publish(library, text="# Library\n\nChanged.\n", change_note="Clearer.", by=None, now=timezone.now())
    chair = User.objects.get(consortium_roles__role="chair")
    starts = timezone.now() + timedelta(days=1)
    meeting = meetings.call(
        title="Board", starts_at=starts, ends_at=starts + timedelta(hours=1), place="Room 4", motions=[],
        points=["One"], by=chair, now=timezone.now(),
    )  # fmt: skip
    interest = boards.register_interest(
        nature="other", institution=None, organisation="Lens GmbH", note="A tie.", by=chair, now=timezone.now()
    )
    sequencer.run(now=timezone.now())
    mail = Mail.objects.create(recipient="a@example.org", subject="Hello", body="http://localhost/")
    return {
        "release": release.slug,
        "candidate": publishing.candidate(programme, slug="waiting").slug,
        "name": "SHA256SUMS",
        "spdx_id": release.license.spdx_id,
        "evaluation": evaluation.pk,
        "mail": mail.pk,
        "failed": factories.failed_mail("gone@example.org", by=operator).pk,
        "programme": programme.slug,
        "programme_pk": programme.pk,
        "agreement": programme.agreements.earliest("pk").slug,
        "annex": annex.slug,
        "library": library.slug,
        "version": 2,
        "old_version": 1,
        "applicant": applicant.slug,
        "declined": declined.slug,
        "role": operator.consortium_roles.get().pk,
        "year": release.motions.get().decision.year,
        "number": release.motions.get().decision.number,
        "meeting": meeting.pk,
        "interest": interest.pk,
        "user": operator.pk,
        "checkpoint": Checkpoint.objects.latest("size").size,
        "event": AuditLeaf.objects.earliest("index").event_id,
        "base_model": factories.base_model(programme).pk,
    }


def site_objects(institution: Institution) -> dict[str, object]:
    """What belongs to one institution and its people."""
    now, number = timezone.now(), next(_number)
    steward = factories.person_of(institution, Role.STEWARD)
    member = factories.person_of(institution, Role.MEMBER)
    later = now.date() + timedelta(days=30)
    reviewed = factories.reviewed_contribution(institution, b"some bytes %d" % number, embargo_until=later)
    evidence = contributions.add_evidence(
        reviewed, run_id=number, attempt=1, name="samples.png", content=b"\x89PNG\r\n\x1a\n"
    )
    motion = Motion.objects.get(contribution=reviewed)
    condition = Condition.objects.create(motion=motion, institution=institution, text="Name the camera.", due_on=now)
    draft = factories.draft_contribution(institution)
    file = factories.upload(draft, b"more bytes %d" % number)
    submitted = factories.submitted_contribution(institution, b"third bytes %d" % number)
    tasks.validate_contribution(contribution_id=submitted.pk)
    isolated = factories.submitted_contribution(institution, b"fourth bytes %d" % number)
    invitation, secret = memberships.invite(
        institution, email=f"new-{number}@example.org", role=Role.MEMBER, by=steward, now=now
    )
    accounts.create_token(steward, name="kit", now=now)
    annex = Agreement.objects.get(slug="annex")
    case = factories.sent_case(institution, annex)
    partner = factories.admitted_institution(f"Partner of {institution}", country=institution.country)
    cover_case = factories.draft_case(
        institution, factories.agreement(annex.programme, slug=f"group-{number}", covers=["images"]), covered=[partner]
    )
    document, _, _ = documents.announce(
        institution, name="approval.pdf", size_bytes=9, sha256="a" * 64, by=steward, now=now
    )
    request = joining.ask(institution, role=Role.MEMBER, message="", by=factories.user("Asking Person"), now=now)
    operator = User.objects.get(consortium_roles__role="operator")
    official = factories.person_of(institution, Role.SIGNING_OFFICIAL)
    registration = attesting.registration(institution.slug, institution.slug)
    base, content = Contribution.objects.earliest("pk").base_model, b"fifth bytes %d" % number
    approved = contributing.at_status("approved", institution, base, by=steward, content=content)
    key = signing_keys.register(institution, registration=registration, label="A", by=official, now=timezone.now())
    return {
        "slug": institution.slug,
        "contribution": reviewed.pk,
        "draft": draft.pk,
        "signing_key": key.pk,
        "contributor": credits.add(reviewed, steward, by=steward, now=timezone.now()).pk,
        "proposed": publishing.proposed_release(operator, approved, slug=f"learnt-{number}").slug,
        "file": file.pk,
        "evidence": evidence.pk,
        "motion": motion.pk,
        "condition": condition.pk,
        "run": Run.objects.get(subject_id=submitted.pk).pk,
        "worker": factories.worker(f"gpu@{institution.slug}/1").pk,
        "submitted": submitted.pk,
        "hold": holds.place(submitted, reason="A court asked.", by=operator, now=now).pk,
        "isolated": isolated.pk,
        "isolation": incidents.isolate(
            isolated, reason="A name was found.", files=list(isolated.files.all()), by=operator, now=now
        ).pk,
        "room_request": room.ask(
            institution, size_bytes=2 * room.of(institution).quota_bytes, reason="More.", by=steward, now=now
        ).pk,
        "secret": secret,
        "invitation": invitation.pk,
        "membership": Membership.objects.get(user=member, institution=institution).pk,
        "token": steward.api_tokens.get().pk,
        "session": UserSession.objects.create(
            user=steward, ip="127.0.0.1", session_key=f"session-{number}", user_agent="tests"
        ).pk,
        "told": factories.told(steward, deadline_at=now).pk,
        "hook": webhooks.add(steward, url="https://hook.example.org/", now=now).pk,
        "case": case.pk,
        "cover_case": cover_case.pk,
        "cover": cover_case.covered.get().pk,
        "document": document.pk,
        "request": request.pk,
        "code": institution.signing_requests.get(status="active").receipt_code,
    }


def missing(own: dict[str, object]) -> dict[str, object]:
    """Values of the same form that stand for nothing."""
    return {name: 999_999_999 if isinstance(value, int) else "missing" for name, value in own.items()}
