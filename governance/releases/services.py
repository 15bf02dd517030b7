"""Candidates, releases, the licence and the downloads."""

import hashlib
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, transaction
from django.db.models import F
from django.urls import reverse
from django.utils.text import slugify

from contributions import uses
from contributions.corpora import services as corpora
from contributions.corpora.models import Corpus
from governance.releases import answers, cards, lifecycle
from governance.releases.lifecycle import Status
from governance.releases.models import Candidate, Download, License, LicenseAcceptance, Release, ReleaseFile
from portal import storage
from portal.accounts.models import User
from portal.agreements.duo import Purpose
from portal.audit import services as audit
from portal.audit.people import plain
from portal.errors import DomainError
from portal.lifecycle import verb
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.programmes.models import Programme

WEIGHTS = "model.safetensors"  # of a release


class NotSignedIn(DomainError):
    """Downloads are counted by person."""

    code = "not_signed_in"
    status = HTTPStatus.UNAUTHORIZED

    def __init__(self, path: str) -> None:
        sign_in = f"{reverse('account_login')}?{urlencode({'next': path})}"
        super().__init__("Sign in first. A program sends the header Authorization: Bearer <token>.", next_url=sign_in)


class LicenceNotAccepted(DomainError):
    """The person has not accepted the licence of this release."""

    code = "licence_not_accepted"
    status = HTTPStatus.FORBIDDEN


class Withdrawn(DomainError):
    """The release was retracted; its page stays as a tombstone."""

    code = "withdrawn"
    status = HTTPStatus.GONE


class AcceptanceInvalid(DomainError):
    """The acceptance is for another text, or says too little."""

    code = "acceptance_invalid"
    status = HTTPStatus.BAD_REQUEST


class AlreadyProposed(DomainError):
    """The candidate has a release already, or another one has this name and version."""

    code = "already_proposed"


@transaction.atomic
def register_license(*, spdx_id: str, title: str, url: str, text: str, by: User | None, now: datetime) -> License:
    """Register a licence text, verbatim, under its SHA-256."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    license = License.objects.create(spdx_id=spdx_id, title=title, url=url, text=text, sha256=sha256, registered_at=now)
    audit.record("license.registered", license, by=by, sha256=sha256)
    return license


@transaction.atomic
def register_candidate(
    *,
    programme: Programme,
    slug: str,
    name: str,
    kind: str,
    description: str,
    config: dict[str, Any],
    sha256: str,
    by: User | None,
    now: datetime,
    corpus: Corpus | None = None,
    run_id: int | None = None,
    training: dict[str, Any] | None = None,
    size_bytes: int = 0,
    storage_key: str = "",
) -> Candidate:
    """Put an encoder on the list of candidates. Its weights, when it has any, lie in the vault already."""
    candidate = Candidate.objects.create(
        programme=programme,
        slug=slug,
        name=name,
        kind=kind,
        description=description,
        config=config,
        sha256=sha256,
        corpus=corpus,
        run_id=run_id,
        training=training or {},
        size_bytes=size_bytes,
        storage_key=storage_key,
        registered_at=now,
    )
    audit.record("candidate.registered", candidate, by=by, sha256=sha256)
    return candidate


def slug_of(name: str, version: str) -> str:
    """Return the name of a release in addresses; 1.0 and 10 stay apart."""
    return slugify(f"{name}-{version}".replace(".", "-"))


def purpose_under(license: License) -> Purpose:
    """Return the purpose for which a model is released under a licence."""
    return Purpose.COMMERCIAL_USE if license.allows_commercial_use else Purpose.NONCOMMERCIAL_RELEASE


@transaction.atomic
def propose(
    candidate: Candidate, *, name: str, version: str, license: License, card: str, by: User, now: datetime
) -> Release:
    """
    Draw up a release of a trained candidate; the board decides (governance.board.services.propose_release).

    The institutions that it learnt from are asked what they say.

    Raises:
        AlreadyProposed: it has a release that was not declined, or is a baseline; or the name and version are taken.
        TermsExclude: an institution signed terms for what it learnt from that exclude what the licence allows.
    """
    candidate = Candidate.objects.select_for_update().get(pk=candidate.pk)
    if not candidate.may_be_proposed:
        raise AlreadyProposed(f"{candidate} is a baseline or has been proposed already.")
    assert candidate.corpus is not None  # a database constraint
    uses.require(
        corpora.contributions_in(candidate.corpus),
        purpose_under(license),
        remedy="Choose a licence that keeps to them, or train without these contributions.",
    )
    drawn_up = Release(
        candidate=candidate,
        slug=slug_of(name, version),
        name=name,
        version=version,
        license=license,
        card=cards.licensed(card, license),
        status_since=now,
        proposed_by=by,
        proposed_at=now,
    )
    release = _created(drawn_up)
    audit.record("release.proposed", release, by=by, candidate_sha256=candidate.sha256)
    answers.ask(release)
    return release


def _created(release: Release) -> Release:
    """Save a release; one that was drawn up at the same time may have taken its address."""
    try:
        with transaction.atomic():
            release.save()
    except IntegrityError:
        raise AlreadyProposed(f"There is a release {release.slug} already. Give another version.") from None
    return release


def _move(release_id: int, target: Status, *, by: User | None, now: datetime, **changes: Any) -> Release:
    """Lock the row, check the move, save it and write the audit event: all or nothing."""
    release = Release.objects.select_for_update().get(pk=release_id)
    before = Status(release.status)
    name = verb(lifecycle.TRANSITIONS, before, target, subject=release)
    release.status, release.status_since = target, now
    for field, value in changes.items():
        setattr(release, field, value)
    release.save(update_fields=["status", "status_since", *changes])
    audit.record(name, release, by=by, before=before)
    return release


@transaction.atomic
def release(release_id: int, *, by: User | None, now: datetime) -> Release:
    """Let a release out, as the board decided. Its files are put in place by `publish_files` right after."""
    return _move(release_id, Status.RELEASED, by=by, now=now, released_at=now)


@transaction.atomic
def decline(release_id: int, *, by: User | None, reason: str, now: datetime) -> Release:
    """Decline a release, with the board's reason."""
    return _move(release_id, Status.DECLINED, by=by, now=now, reason=reason)


@transaction.atomic
def retract(release_id: int, *, by: User | None, reason: str, now: datetime) -> Release:
    """Retract a release: downloads stop, its page stays as a tombstone, who accepted its licence is told."""
    release = _move(release_id, Status.RETRACTED, by=by, now=now, reason=reason, retracted_at=now)
    notify(
        User.objects.filter(license_acceptances__release=release).distinct(),
        type=Type.RELEASE,
        subject=f"{release} was retracted",
        text=f"{plain(reason)}\n\nPlease stop using it. Copies already given keep their licence, which cannot be "
        "revoked.",
        path=release.get_absolute_url(),
    )
    return release


# Licence


def acceptance_of(user: User | AnonymousUser, release: Release) -> LicenseAcceptance | None:
    """Return the person's acceptance of the licence of this release, or None."""
    if not user.is_authenticated:
        return None
    return LicenseAcceptance.objects.filter(user=user, release=release, license_id=release.license_id).first()


def accepted_by(user: User | AnonymousUser) -> set[int]:
    """Return the ids of the releases whose licence, as it stands, the person has accepted."""
    if not user.is_authenticated:
        return set()
    rows = LicenseAcceptance.objects.filter(user=user, license=F("release__license"))
    return set(rows.values_list("release", flat=True))


@transaction.atomic
def accept_license(
    release: Release,
    *,
    license_sha256: str,
    typed_name: str,
    institution_name: str,
    purpose: str,
    channel: str,
    by: User,
    now: datetime,
) -> LicenseAcceptance:
    """Record who accepted which text for which release, when and for what. Accepting again changes nothing."""
    # Locked against another window of the same person, and against a retraction, which tells who has accepted.
    release = Release.objects.select_for_update(of=("self",)).select_related("license").get(pk=release.pk)
    accepted = acceptance_of(by, release)
    if accepted is not None:
        return accepted
    if release.status != Status.RELEASED:
        raise Withdrawn(f"{release} is {release.get_status_display().lower()}.", next_url=release.get_absolute_url())
    if license_sha256 != release.license.sha256:
        raise AcceptanceInvalid("The text that was accepted is not the licence of this release. Read it again.")
    if not (typed_name.strip() and purpose.strip()):
        raise AcceptanceInvalid("Give your name and, in a sentence, the non-commercial purpose.")
    accepted = LicenseAcceptance.objects.create(
        user=by,
        release=release,
        license=release.license,
        license_sha256=license_sha256,
        typed_name=typed_name.strip(),
        institution_name=institution_name.strip(),
        purpose=purpose.strip(),
        channel=channel,
        accepted_at=now,
    )
    audit.record("license.accepted", accepted, by=by, release=release.slug, sha256=license_sha256, channel=channel)
    return accepted


# Files


def add_file(release: Release, *, name: str, content: bytes, content_type: str) -> ReleaseFile:
    """Put one file of a release into its bucket. Safe to repeat: the same name replaces nothing."""
    key = f"{release.slug}/{name}"
    existing = release.files.filter(name=name).first()
    if existing is not None:
        return existing
    storage.put(storage.RELEASES, key, content, content_type=content_type)
    return ReleaseFile.objects.create(
        release=release, name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), storage_key=key
    )


def copy_weights(release: Release) -> None:
    """Copy the candidate's weights, inside the store, to the release. Again, it is the same bytes."""
    storage.promote((storage.VAULT, release.candidate.storage_key), (storage.RELEASES, f"{release.slug}/{WEIGHTS}"))


def add_weights(release: Release) -> None:
    """Enter the weights that copy_weights() has copied. Safe to repeat."""
    known = {"size_bytes": release.candidate.size_bytes, "sha256": release.candidate.sha256}
    release.files.get_or_create(name=WEIGHTS, defaults={**known, "storage_key": f"{release.slug}/{WEIGHTS}"})


def sha256sums(release: Release) -> str:
    """Return the SHA256SUMS of a release's other files, as `sha256sum -c` reads it."""
    files = release.files.exclude(name="SHA256SUMS")
    return "".join(f"{file.sha256}  {file.name}\n" for file in files)


def require_download(release: Release, *, by: User) -> None:
    """
    Refuse a download that the person has no right to.

    Raises:
        Withdrawn: the release was retracted.
        LicenceNotAccepted: with the page where to accept.
    """
    if release.status != Status.RELEASED:
        raise Withdrawn(f"{release} was retracted: {release.reason}", next_url=release.get_absolute_url())
    if acceptance_of(by, release) is None:
        raise LicenceNotAccepted(
            f"Accept {release.license.spdx_id} for {release} first; it takes a minute.",
            next_url=reverse("releases:accept", args=[release.slug]),
        )


@transaction.atomic
def sign_download(file: ReleaseFile, *, by: User, now: datetime) -> str:
    """Return a short-lived address of one file and count the download. Raises as `require_download` does."""
    require_download(file.release, by=by)
    Download.objects.create(file=file, user=by, at=now)
    audit.record("release.downloaded", file.release, by=by, file=file.name)
    return storage.sign_download(storage.RELEASES, file.storage_key, filename=file.name)
