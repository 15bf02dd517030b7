"""Objects for tests. Every state is reached through the real services, so a test cannot invent an impossible one."""

import hashlib
import itertools
from base64 import b64encode
from pathlib import Path
from typing import Any

import urllib3
from allauth.account.models import EmailAddress
from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution, ContributionFile
from governance.board import services as boards
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.agreements import services as agreements
from portal.agreements.models import Signature
from portal.institutions import services as institutions
from portal.institutions.models import Institution, Membership
from portal.programmes import services as programmes
from portal.programmes.models import BaseModel, Programme

Role = Membership.Role
PASSWORD = "correct horse battery"
BASE_FOLDER = Path(__file__).resolve().parent.parent / "jobs" / "kit" / "base" / "fundus-64"
AGREEMENT_TEXT = "# Data-use agreement\n\nThe institution sends only what it may send.\n"
_number = itertools.count(1)


def user(name: str, *, email: str = "", password: str | None = None) -> User:
    """A person with a verified address. Without a password (slow to hash), sign in with the `sign_in` fixture."""
    email = email or f"person-{next(_number)}@example.org"
    person = User.objects.create_user(email, password, name=name)
    EmailAddress.objects.create(user=person, email=email, verified=True, primary=True)
    return person


def consortium_person(name: str, role: str) -> User:
    person = user(name)
    accounts.appoint(person, role, by=None, now=timezone.now())
    return person


def board(size: int = 3) -> list[User]:
    """Return members of the board; the first is the chair."""
    roles = ["chair", *["board_member"] * (size - 1)]
    return [consortium_person(f"Board Member {i}", role) for i, role in enumerate(roles, start=1)]


def programme(slug: str = "retina") -> Programme:
    """A programme with an agreement in force."""
    row = programmes.create(
        slug=slug, name=slug.title(), modality="colour fundus photography", description="", by=None, now=timezone.now()
    )
    agreements.publish(
        row, title="Data-use agreement", text=AGREEMENT_TEXT, change_note="First.", by=None, now=timezone.now()
    )
    return row


def base_model(programme: Programme) -> BaseModel:
    """The kit's own base generator, registered and kept in the vault."""
    return programmes.register_base_model(programme, BASE_FOLDER, by=None, now=timezone.now())


def draft_institution(name: str, *, country: str = "KE", by: User | None = None, **profile: Any) -> Institution:
    """An application as a draft; `by` (or somebody new) is its principal investigator."""
    by = by or user(f"Principal Investigator of {name}")
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


def admitted_institution(name: str, *, country: str = "KE", **profile: Any) -> Institution:
    """A member that has not signed yet."""
    return institutions.admit(applied_institution(name, country=country, **profile).pk, by=None, now=timezone.now())


def member_institution(name: str, *, country: str = "KE", **profile: Any) -> Institution:
    """A member with the agreement signed."""
    institution = admitted_institution(name, country=country, **profile)
    sign_agreement(institution)
    return institution


def sign_agreement(institution: Institution, *, programme: Programme | None = None) -> Signature:
    agreement = agreements.current(programme or Programme.objects.earliest("pk"))
    assert agreement is not None
    signer = person_of(institution, Role.SIGNING_OFFICIAL)
    return agreements.sign(
        agreement,
        institution,
        by=signer,
        typed_name=signer.name,
        authentication="password",
        ip_address="127.0.0.1",
        user_agent="tests",
        now=timezone.now(),
    )


def person_of(institution: Institution, role: str = Role.PRINCIPAL_INVESTIGATOR) -> User:
    """Return the person who holds `role` in the institution, invited and accepted when there is none yet."""
    existing = institutions.people(institution, role).first()
    if existing is not None:
        return existing
    manager = institutions.people(institution, Role.PRINCIPAL_INVESTIGATOR).earliest("pk")
    person = user(f"{Role(role).label} of {institution}")
    _, secret = institutions.invite(institution, email=person.email, role=role, by=manager, now=timezone.now())
    institutions.accept_invitation(secret, by=person, verified_emails={person.email}, now=timezone.now())
    return person


def vote_all(motion: Any, choice: str = "for", reason: str = "") -> None:
    """Let every eligible member of the board vote, until the motion closes."""
    for voter in boards.board():
        motion.refresh_from_db()
        if motion.status == "open" and boards.can_vote(voter, motion):
            boards.cast_vote(motion, choice=choice, reason=reason, by=voter, now=timezone.now())
    motion.refresh_from_db()


CARD: dict[str, Any] = {
    "images": 520, "patients": 260, "steps": 400, "batch_size": 16, "learning_rate": 1e-4, "seed": 1,
    "augmentation": "flips", "deduplication": "by file hash", "dp": {"used": False}, "cameras": "unknown",
    "demographics": "unknown",
}  # fmt: skip


def draft_contribution(institution: Institution, *, title: str = "Fine-tuned weights") -> Contribution:
    base = BaseModel.objects.first() or base_model(Programme.objects.earliest("pk"))
    return contributions.draft(
        institution,
        kind=Contribution.Kind.WEIGHTS,
        title=title,
        base_model=base,
        training_card=CARD,
        by=person_of(institution, Role.STEWARD),
        now=timezone.now(),
    )


def upload(contribution: Contribution, content: bytes, *, name: str = "weights.safetensors") -> ContributionFile:
    """Send a file as a browser does: announced, signed part by part, put straight into the store, completed."""
    steward = person_of(contribution.institution, Role.STEWARD)
    file = contributions.add_file(
        contribution,
        name=name,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        by=steward,
        now=timezone.now(),
    )
    size = file.part_size_bytes
    parts = [content[start : start + size] for start in range(0, max(1, len(content)), size)]
    hashes = [(number, b64encode(hashlib.sha256(part).digest()).decode()) for number, part in enumerate(parts, start=1)]
    for signed, part in zip(contributions.sign_parts(file, hashes, by=steward), parts, strict=True):
        answer = urllib3.request("PUT", signed["url"], body=part, headers=signed["headers"])
        assert answer.status == 200, answer.data
    return contributions.complete_file(file, by=steward, now=timezone.now())


def submitted_contribution(institution: Institution, content: bytes = b"some bytes", **file: Any) -> Contribution:
    contribution = draft_contribution(institution)
    upload(contribution, content, **file)
    steward = person_of(institution, Role.STEWARD)
    return contributions.submit(contribution, by=steward, now=timezone.now())


def reviewed_contribution(institution: Institution, content: bytes = b"some bytes") -> Contribution:
    """A contribution before the board: moved there as a worker does once every check has passed."""
    contribution = submitted_contribution(institution, content)
    contributions.begin_validation(contribution.pk, now=timezone.now())
    contributions.promote_files(contribution.pk)
    motion = boards.refer_contribution(contribution.pk, now=timezone.now())
    assert motion.contribution is not None
    return motion.contribution
