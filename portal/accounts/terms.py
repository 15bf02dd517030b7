"""The terms of the site and its code of conduct: versions, and who accepted which."""

import hashlib
from datetime import datetime
from pathlib import Path

from django.db import transaction

from portal.accounts.models import SiteTerms, TermsAcceptance, User
from portal.audit import services as audit
from portal.errors import DomainError

TEXTS = Path(__file__).parent / "texts"


class TermsChanged(DomainError):
    """A newer version was published while the person read."""

    code = "terms_changed"


def current() -> SiteTerms | None:
    """Return the terms in force: the newest version; None before any is published."""
    return SiteTerms.objects.order_by("-version").first()


@transaction.atomic
def publish(text: str, *, change_note: str, by: User | None, now: datetime) -> SiteTerms:
    """Publish a new, immutable version; everybody accepts it on the next page."""
    newest = SiteTerms.objects.select_for_update().order_by("-version").first()
    terms = SiteTerms.objects.create(
        version=newest.version + 1 if newest else 1,
        text=text,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        change_note=change_note,
        published_at=now,
    )
    audit.record("terms.published", terms, by=by, version=terms.version, sha256=terms.sha256)
    return terms


def publish_shipped(*, now: datetime) -> list[SiteTerms]:
    """Publish the texts of this release, texts/terms-<version>.md, that are not there yet."""
    newest = current()
    version, published = newest.version + 1 if newest else 1, []
    while (path := TEXTS / f"terms-{version}.md").exists():
        note, _, text = path.read_text(encoding="utf-8").partition("\n\n")
        published.append(publish(text, change_note=note.removeprefix("Change: "), by=None, now=now))
        version += 1
    return published


@transaction.atomic
def accept(terms: SiteTerms, *, by: User, now: datetime) -> TermsAcceptance:
    """Accept the version in force. Accepting it again changes nothing."""
    if terms != current():
        raise TermsChanged("A newer version was published while you read. Read it, then accept that one.")
    acceptance, created = TermsAcceptance.objects.get_or_create(user=by, terms=terms, defaults={"accepted_at": now})
    if created:
        audit.record("terms.accepted", acceptance, by=by, version=terms.version, sha256=terms.sha256)
    return acceptance
