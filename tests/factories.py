"""Objects for tests. Every state is reached through the real services, so a test cannot invent an impossible one."""

import itertools
import os
import time
import tomllib
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from allauth.account.models import EmailAddress
from allauth.mfa import app_settings
from allauth.mfa.totp.internal import auth as totp
from django.core.cache import cache
from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution, ContributionFile
from governance.board import services as boards
from governance.board.reviews import QUESTIONS
from jobs import workers
from jobs.kit import metrics
from jobs.models import Worker
from portal.accounts import proofs
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.agreements import rendering
from portal.agreements import services as agreements
from portal.agreements.models import Agreement, Party, Signature, SigningRequest
from portal.institutions import memberships, options
from portal.institutions import services as institutions
from portal.institutions.models import Institution, Membership
from portal.notifications import outbox
from portal.notifications.models import Notification, OutboxMessage
from portal.notifications.services import notify, put
from portal.notifications.types import Type
from portal.programmes import services as programmes
from portal.programmes.models import BaseModel, Programme
from tests import contributing

Role = Membership.Role
PASSWORD = "correct horse battery"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # of every authenticator app in the tests
BASE_FOLDER = Path(__file__).resolve().parent.parent / "jobs" / "kit" / "base" / "fundus-64"
RETINA = Path(programmes.__file__).parent / "blueprints" / "retina" / "programme.toml"
FULL_TEXT = (  # with variables
    "# Agreement\n\n{{ institution }}, {{ principal_investigator }}, {{ ethics_reference }}, {{ covered }}, "
    "{{ expires_on }}\n"
)
AGREEMENT_TEXT = "# Data-use agreement\n\nThe institution sends only what it may send.\n"
_number = itertools.count(int(os.environ.get("FIRST_PERSON", "1")))  # a scene of a running portal is not the first


def user(name: str, *, email: str = "", password: str | None = None) -> User:
    """A person with a verified address. Without a password (slow to hash), sign in with the `sign_in` fixture."""
    email = email or f"person-{next(_number)}@example.org"
    person = User.objects.create_user(email, password, name=name)
    EmailAddress.objects.create(user=person, email=email, verified=True, primary=True)
    return person


def enrol(person: User) -> User:
    """Give a person an authenticator app, as the roles that bind an institution or the consortium must have."""
    if not proofs.has_second_factor(person):
        totp.TOTP.activate(person, SECRET)
    return person


def totp_code(person: User) -> str:
    """Return the code that the person's app shows now; each is good once, so this one is made good again."""
    code = totp.format_hotp_value(totp.hotp_value(SECRET, int(time.time()) // app_settings.TOTP_PERIOD))
    cache.delete(f"allauth.mfa.totp.used?user={person.pk}&code={code}")
    return code


def consortium_person(name: str, role: str) -> User:
    person = user(name)
    accounts.appoint(person, role, by=None, now=timezone.now())
    return enrol(person) if accounts.needs_second_factor(person) else person


def board(size: int = 3) -> list[User]:
    """Return members of the board; the first is the chair."""
    roles = ["chair", *["board_member"] * (size - 1)]
    return [consortium_person(f"Board Member {i}", role) for i, role in enumerate(roles, start=1)]


def programme(slug: str = "retina", *, checks: Sequence[int] = (0, 1, 4, 5, 7)) -> Programme:
    """A programme with an agreement in force. By itself it asks for no signed evidence; test_evidence.py has all."""
    row = programmes.create(
        slug=slug,
        name=slug.title(),
        modality="colour fundus photography",
        description="",
        checks=list(checks),
        thresholds={"samples": 20},  # fewer than the base asks for: the same checks, in less time
        by=None,
        now=timezone.now(),
    )
    agreement(row)
    for field, names in tomllib.loads(RETINA.read_text(encoding="utf-8"))["profile"].items():
        options.offer(field, names)
    return row


def agreement(
    programme: Programme, *, slug: str = "data-use-agreement", text: str = AGREEMENT_TEXT, **terms: Any
) -> Agreement:
    """An agreement of the library with its first version."""
    title = slug.replace("-", " ").capitalize().replace("Data use", "Data-use")
    row = agreements.create_agreement(programme, slug=slug, title=title, by=None, now=timezone.now(), **terms)
    agreements.publish(row, text=text, change_note="First.", by=None, now=timezone.now())
    return row


def base_model(programme: Programme) -> BaseModel:
    """The kit's own base generator, registered and kept in the vault."""
    return programmes.register_base_model(programme, BASE_FOLDER, by=None, now=timezone.now())


def draft_institution(name: str, *, country: str = "KE", by: User | None = None, **profile: Any) -> Institution:
    """An application as a draft; `by` (or somebody new) is its principal investigator."""
    by = by or enrol(user(f"Principal Investigator of {name}"))
    return institutions.start_application(
        by=by,
        now=timezone.now(),
        role=Role.PRINCIPAL_INVESTIGATOR,
        name=name,
        country=country,
        kind=Institution.Kind.HOSPITAL,
        **profile,
    )


def applied_institution(name: str, *, country: str = "KE", **profile: Any) -> Institution:
    institution = draft_institution(name, country=country, **profile)
    return institutions.apply(institution, by=person_of(institution), now=timezone.now())


def returned_institution(name: str, *, by: User, comments: dict[str, str] | None = None, **profile: Any) -> Institution:
    """An application that `by` (an operator, the chair or its reviewer) returned for changes."""
    return institutions.return_for_changes(
        applied_institution(name, **profile),
        comments=comments or {"city": "Which city?"},
        note="",
        by=by,
        now=timezone.now(),
    )


def declined_institution(name: str, *, reason: str = "No ethics approval.", **profile: Any) -> Institution:
    """An application that the board declined."""
    institution = applied_institution(name, **profile)
    return institutions.decline(institution.pk, by=None, reason=reason, now=timezone.now())


def admitted_institution(name: str, *, country: str = "KE", **profile: Any) -> Institution:
    """A member that has not signed yet."""
    return institutions.admit(applied_institution(name, country=country, **profile).pk, by=None, now=timezone.now())


def member_institution(name: str, *, country: str = "KE", **profile: Any) -> Institution:
    """A member with the agreement signed."""
    institution = admitted_institution(name, country=country, **profile)
    sign_agreement(institution)
    return institution


def sign_agreement(institution: Institution, *, programme: Programme | None = None) -> SigningRequest:
    """The programme's first agreement, prepared and signed by all three."""
    row = (programme or Programme.objects.earliest("pk")).agreements.earliest("pk")
    return signed_case(sent_case(institution, row))


def draft_case(institution: Institution, agreement: Agreement, **prepared: Any) -> SigningRequest:
    """A case as a draft. Its variables are those of the text that `prepared` does not give."""
    version = agreements.newest_of(agreement)
    assert version is not None
    manager = person_of(institution)
    given = {name: f"some {name}" for name in rendering.variables_of(version.text)} | {
        "principal_investigator": manager.name,
        **prepared.pop("variables", {}),
    }
    wanted = [name for name in rendering.variables_of(version.text) if name not in {"covered", "expires_on"}]
    return agreements.prepare(
        agreement,
        institution,
        variables={name: given[name] for name in wanted},
        by=manager,
        now=prepared.pop("now", None) or timezone.now(),
        **prepared,
    )


def sent_case(institution: Institution, agreement: Agreement, **prepared: Any) -> SigningRequest:
    """A case that waits for its first signature."""
    now = prepared.get("now") or timezone.now()
    person_of(institution, Role.SIGNING_OFFICIAL)
    signatory()
    return agreements.send(draft_case(institution, agreement, **prepared), by=person_of(institution), now=now)


def signed_case(case: SigningRequest, *, times: int = 3, now: datetime | None = None) -> SigningRequest:
    """The case with its next `times` signatures."""
    case.refresh_from_db()
    for _ in range(times):
        if agreements.next_party(case) is not None:
            sign_next(case, now=now)
    case.refresh_from_db()
    return case


def sign_next(case: SigningRequest, *, by: User | None = None, now: datetime | None = None) -> Signature:
    """The signature of whoever's turn it is (or of `by`, whose turn it may not be)."""
    party = agreements.next_party(case) or Party.CONSORTIUM
    signer = by or agreements.signers(case, party).earliest("pk")
    return agreements.sign(
        case,
        by=signer,
        typed_name=signer.name,
        authority=agreements.AUTHORITY[party],
        authentication=["password"],
        ip_address="127.0.0.1",
        user_agent="tests",
        now=now or timezone.now(),
    )


def signatory() -> User:
    """The person who countersigns for the consortium."""
    existing = User.objects.filter(consortium_roles__role="signatory", consortium_roles__ended_at=None).first()
    return existing or consortium_person("Sol Signatory", "signatory")


def person_of(institution: Institution, role: str = Role.PRINCIPAL_INVESTIGATOR) -> User:
    """Return the person who holds `role` in the institution, invited and accepted when there is none yet."""
    existing = institutions.people(institution, role).first()
    if existing is not None:
        return existing
    person = user(f"{Role(role).label} of {institution}")
    join(institution, person, role)
    return enrol(person) if accounts.needs_second_factor(person) else person


def join(institution: Institution, person: User, role: str = Role.MEMBER) -> Membership:
    """Make a person a member of the institution, invited and accepted."""
    manager = institutions.people(institution, Role.PRINCIPAL_INVESTIGATOR).earliest("pk")
    _, secret = memberships.invite(institution, email=person.email, role=role, by=manager, now=timezone.now())
    return memberships.accept_invitation(secret, by=person, verified_emails={person.email}, now=timezone.now())


def declare(motion: Any, *people: User) -> None:
    """Let members of the board (those given, or all who may) answer that they have no interest; the case opens."""
    for person in people or boards.electorate(motion):
        if boards.can_vote(person, motion) and not boards.has_declared(person, motion):
            boards.declare(motion, answer="none", by=person, now=timezone.now())


def cast(motion: Any, voter: User, choice: str = "for", reason: str = "", **more: Any) -> Any:
    """Declare no interest, where that is not done, and vote."""
    declare(motion, voter)
    return boards.cast_vote(motion, choice=choice, reason=reason, by=voter, now=timezone.now(), **more)


def review_all(motion: Any, recommendation: str = "approve") -> None:
    """Let the reviewers of a motion finish, so that its ballot opens."""
    answers = dict.fromkeys(QUESTIONS, "yes")
    for review in motion.reviews.waiting().select_related("reviewer"):
        declare(motion, review.reviewer)
        boards.submit_review(
            motion,
            answers=answers,
            recommendation=recommendation,
            note="Read in full.",
            by=review.reviewer,
            now=timezone.now(),
        )
    motion.refresh_from_db()


def vote_all(motion: Any, choice: str = "for", reason: str = "") -> None:
    """Let the reviewers finish and every eligible member of the board vote, until the motion closes."""
    review_all(motion)
    for voter in boards.electorate(motion):
        motion.refresh_from_db()
        if motion.status == "open" and boards.can_vote(voter, motion):
            cast(motion, voter, choice, reason)
    motion.refresh_from_db()


def told(person: User, **changes: Any) -> Notification:
    """An entry of a person's inbox."""
    values = {"type": Type.CONTRIBUTION, "subject": "C-7 passed its checks", "text": "The board has it.", "path": "/"}
    notify([person], **values | changes)
    return Notification.objects.filter(recipient=person).latest("pk")


def failed_mail(address: str, *, by: User) -> OutboxMessage:
    """A mail that an operator has given up."""
    row = put(address, type=Type.ACCOUNT, subject="Your password was changed", text="It was changed.", path="/account/")
    return outbox.give_up(row, by=by, now=timezone.now())


def worker(name: str = "cpu@site/1", **facts: Any) -> Worker:
    """A worker of both queues, alive; what it is said to have is not looked for on this machine."""
    row = workers.register(name=name, queues=facts.pop("queues", ["cpu", "gpu"]), now=timezone.now())
    Worker.objects.filter(pk=row.pk).update(**facts)
    row.refresh_from_db()
    return row


CARD: dict[str, Any] = {
    "images": 520, "patients": 260, "steps": 400, "batch_size": 16, "learning_rate": 1e-4, "seed": 1,
    "augmentation": "flips", "deduplication": "by file hash", "dp": {"used": False}, "cameras": "unknown",
    "demographics": "unknown",
}  # fmt: skip


def draft_contribution(
    institution: Institution, *, title: str = "Fine-tuned weights", embargo_until: date | None = None
) -> Contribution:
    programme = Programme.objects.earliest("pk")
    base = programme.base_models.first() or base_model(programme)
    return contributions.draft(
        institution,
        kind=Contribution.Kind.WEIGHTS,
        title=title,
        base_model=base,
        training_card=CARD,
        embargo_until=embargo_until,
        by=person_of(institution, Role.STEWARD),
        now=timezone.now(),
    )


def upload(contribution: Contribution, content: bytes, *, name: str = "weights.safetensors") -> ContributionFile:
    return contributing.upload(contribution, content, by=person_of(contribution.institution, Role.STEWARD), name=name)


def submitted_contribution(
    institution: Institution, content: bytes = b"some bytes", *, embargo_until: date | None = None, **file: Any
) -> Contribution:
    contribution = draft_contribution(institution, embargo_until=embargo_until)
    upload(contribution, content, **file)
    steward = person_of(institution, Role.STEWARD)
    return contributions.submit(contribution, by=steward, now=timezone.now())


def reviewed_contribution(
    institution: Institution, content: bytes = b"some bytes", *, embargo_until: date | None = None
) -> Contribution:
    """A contribution before the board: moved there as a worker does once every check has passed."""
    contribution = submitted_contribution(institution, content, embargo_until=embargo_until)
    contributions.begin_validation(contribution.pk, now=timezone.now())
    contributions.promote_files(contribution.pk)
    motion = boards.refer_contribution(contribution.pk, now=timezone.now())
    assert motion.contribution is not None
    return motion.contribution


def evaluation_report(auroc: float = 0.8) -> dict[str, Any]:
    """Return a report of the kit's own evaluation: 80 patients, features that tell the label as well as asked."""
    rng = np.random.default_rng(3)
    y = np.arange(80) % 2
    score = y * (2 * auroc - 1) + rng.random(80)
    overall = metrics.bootstrap_auroc(y, score, np.arange(80), n_resamples=50)
    cell = {name: getattr(overall, name) for name in ("n", "n_positive", "n_patients", "low", "high", "n_excluded")}
    return {
        "status": "done",
        "sentence": "",
        "overall": {**cell, "auroc": overall.estimate, "suppressed": False},
        "subgroups": [],
        "worst_group": None,
        "gap": None,
        "roc": [list(point) for point in metrics.roc_points(y, score)],
        "protocol": {},
        "encoder": {},
        "inputs": {},
        "versions": {},
        "seconds": {},
    }
