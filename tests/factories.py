"""Objects for tests. Every state is reached through the real services, so a test cannot invent an impossible one."""

import hashlib
import itertools
import tempfile
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import urllib3
from allauth.account.models import EmailAddress
from django.utils import timezone

from contributions import services as contributions
from contributions.corpora import services as corpora
from contributions.corpora.models import Corpus, DataSet
from contributions.models import Contribution, ContributionFile
from governance.benchmarks import services as benchmarks
from governance.benchmarks.models import Task
from governance.board import services as boards
from governance.releases import services as releases
from governance.releases.models import Candidate, License, Release
from jobs import publish
from jobs.kit import metrics
from portal import storage
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.agreements import services as agreements
from portal.agreements.models import Signature
from portal.institutions import memberships
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
    _, secret = memberships.invite(institution, email=person.email, role=role, by=manager, now=timezone.now())
    memberships.accept_invitation(secret, by=person, verified_emails={person.email}, now=timezone.now())
    return person


def vote_all(motion: Any, choice: str = "for", reason: str = "") -> None:
    """Let every eligible member of the board vote, until the motion closes."""
    for voter in boards.board(motion.programme):
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
    programme = Programme.objects.earliest("pk")
    base = programme.base_models.first() or base_model(programme)
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


def candidate(programme: Programme, *, slug: str = "tiny", corpus: Corpus | None = None) -> Candidate:
    """A trained candidate with a small weights file in the vault."""
    content = b"\x02\x00\x00\x00\x00\x00\x00\x00{}" + slug.encode()
    key = f"candidates/{slug}.safetensors"
    storage.put(storage.VAULT, key, content)
    return releases.register_candidate(
        programme=programme,
        slug=slug,
        name=slug.title(),
        kind=Candidate.Kind.TRAINED,
        description="For tests.",
        config={"encoder": {"name": slug}, "transform": {"image_size": 96}},
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        storage_key=key,
        corpus=corpus or frozen_corpus(programme, slug=f"corpus-{slug}"),
        run_id=1,
        by=None,
        now=timezone.now(),
    )


def dataset(programme: Programme) -> DataSet:
    """A data set whose tar holds a line of text: enough where nobody reads the images."""
    existing = DataSet.objects.filter(slug="test-images").first()
    if existing is not None:
        return existing
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"no images")
        file.flush()
        return corpora.register_dataset(
            programme,
            Path(file.name),
            slug="test-images",
            by=None,
            now=timezone.now(),
            title="Test images",
            credits="Nobody.",
            image_count=2,
            train_count=1,
            patient_count=2,
            manifest_sha256="0" * 64,
        )


def frozen_corpus(programme: Programme, *, slug: str) -> Corpus:
    corpus = corpora.draft_corpus(programme, slug=slug, title=slug.title(), by=None, now=timezone.now())
    corpora.add_dataset(corpus, dataset(programme), image_count=1)
    return corpora.freeze(corpus, by=None, now=timezone.now())


def benchmark_task(programme: Programme, *, slug: str = "dr") -> Task:
    return benchmarks.register_task(
        dataset(programme),
        slug=slug,
        name=slug.upper(),
        label="dr_any",
        protocol={},
        position=0,
        by=None,
        now=timezone.now(),
    )


def license_text() -> License:
    return License.objects.first() or releases.register_license(
        spdx_id="CC-BY-NC-4.0",
        title="Creative Commons Attribution-NonCommercial 4.0 International",
        url="https://creativecommons.org/licenses/by-nc/4.0/",
        text="The licence's text.",
        by=None,
        now=timezone.now(),
    )


def proposed_release(by: User, *, slug: str = "tiny") -> Release:
    """A release before the board; needs `board`."""
    programme = Programme.objects.earliest("pk")
    return boards.propose_release(
        candidate(programme, slug=slug),
        name=slug.title(),
        version="1.0",
        license=license_text(),
        card="# Card",
        by=by,
        now=timezone.now(),
    )


def released_model(by: User, *, slug: str = "tiny") -> Release:
    """A release that the board carried, its files in place."""
    release = proposed_release(by, slug=slug)
    vote_all(release.motions.get())
    publish.publish(release.pk)
    release.refresh_from_db()
    return release


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
