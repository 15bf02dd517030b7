"""Registering data sets; composing and freezing corpora."""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from contributions import embargo, isolation, reports, uses
from contributions.corpora.models import Corpus, CorpusPart, DataSet
from contributions.lifecycle import Status
from contributions.models import Contribution
from portal import storage
from portal.accounts.models import User
from portal.agreements.duo import Purpose
from portal.audit import services as audit
from portal.errors import DomainError
from portal.institutions import services as institutions
from portal.institutions.models import Institution
from portal.notifications.services import notify
from portal.notifications.types import Type
from portal.programmes.models import Programme

ENTERED, LEFT = "contribution.entered_corpus", "contribution.left_corpus"


class CorpusFrozen(DomainError):
    """A frozen corpus does not change."""

    code = "corpus_frozen"


class NotApproved(DomainError):
    """Only approved contributions enter a corpus."""

    code = "contribution_not_approved"


class OtherProgramme(DomainError):
    """A contribution belongs to one programme, and so do the models that learn from it."""

    code = "other_programme"


def register_dataset(
    programme: Programme, tar: Path, *, slug: str, by: User | None, now: datetime, **facts: Any
) -> DataSet:
    """Keep a data set's tar in the vault under its SHA-256. `facts` are the remaining fields of DataSet."""
    with tar.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    key = f"datasets/{slug}-{sha256[:12]}.tar"
    with tar.open("rb") as file:
        storage.put(storage.VAULT, key, file, content_type="application/x-tar")
    with transaction.atomic():
        dataset = DataSet.objects.create(
            programme=programme,
            slug=slug,
            sha256=sha256,
            size_bytes=tar.stat().st_size,
            storage_key=key,
            registered_at=now,
            **facts,
        )
        audit.record("dataset.registered", dataset, by=by, sha256=sha256, images=dataset.image_count)
    return dataset


@transaction.atomic
def draft_corpus(programme: Programme, *, slug: str, title: str, by: User | None, now: datetime) -> Corpus:
    """Begin a corpus."""
    corpus = Corpus.objects.create(programme=programme, slug=slug, title=title, created_at=now)
    audit.record("corpus.drafted", corpus, by=by)
    return corpus


def _open_corpus(corpus: Corpus) -> Corpus:
    corpus = Corpus.objects.select_for_update().get(pk=corpus.pk)
    if corpus.frozen_at is not None:
        raise CorpusFrozen(f"{corpus} is frozen. Begin a new corpus to change the mixture.")
    return corpus


@transaction.atomic
def add_dataset(corpus: Corpus, dataset: DataSet, *, image_count: int, by: User | None = None) -> CorpusPart:
    """Add the training split of a data set: `image_count` photographs."""
    part = CorpusPart.objects.create(
        corpus=_open_corpus(corpus),
        kind=CorpusPart.Kind.REAL,
        dataset=dataset,
        image_count=image_count,
        source_sha256=dataset.manifest_sha256,
    )
    audit.record("dataset.entered_corpus", dataset, by=by, **_facts(part))
    return part


@transaction.atomic
def add_generator(
    corpus: Corpus, contribution: Contribution, *, image_count: int, seed: int, now: datetime, by: User | None = None
) -> CorpusPart:
    """
    Add images to be sampled from an approved generator with this seed, or images of approved shards.

    Of shards there are at most as many as they hold.
    """
    contribution = Contribution.objects.select_for_update().get(pk=contribution.pk)
    if contribution.status != Status.APPROVED:
        raise NotApproved(f"{contribution} is {contribution.get_status_display().lower()}; the board must approve it.")
    isolation.require_none(contribution)
    embargo.require_over(contribution, now=now)
    if contribution.programme_id != corpus.programme_id:
        raise OtherProgramme(
            f"{contribution} belongs to the programme {contribution.programme}, {corpus} to {corpus.programme}. Add it "
            "to a corpus of its own programme."
        )
    _require_training([contribution])
    if contribution.kind == Contribution.Kind.SYNTHETIC:
        image_count = min(image_count, reports.image_count(contribution))
    is_first = not contribution.corpus_parts.exists()  # the contribution is locked, so nobody adds it meanwhile
    part = CorpusPart.objects.create(
        corpus=_open_corpus(corpus),
        kind=CorpusPart.Kind.SYNTHETIC,
        contribution=contribution,
        image_count=image_count,
        seed=seed,
        source_sha256=contribution.manifest_sha256,
    )
    audit.record(ENTERED, contribution, by=by, **_facts(part))
    if is_first:
        _tell_of_first(part, contribution)
    return part


def _facts(part: CorpusPart) -> dict[str, Any]:
    return {"corpus": part.corpus.slug, "title": part.corpus.title, "images": part.image_count}


def _tell_of_first(part: CorpusPart, contribution: Contribution) -> None:
    made = "Images of it" if contribution.kind == Contribution.Kind.SYNTHETIC else "Images sampled from it"
    notify(
        institutions.people_acting_for(contribution.institution),
        type=Type.CONTRIBUTION,
        subject=f"{contribution} is part of a corpus",
        text=f"{made} are in “{part.corpus}”: {part.image_count:,}. Models learn from corpora. Every corpus and model "
        "that uses it is shown here:",
        path=contribution.get_absolute_url(),
    )


def manifest(corpus: Corpus) -> str:
    """Return one line per part: kind, count, seed, hash of the source. Its SHA-256 names the frozen corpus."""
    parts = corpus.parts.order_by("kind", "source_sha256")
    return "".join(f"{part.kind} {part.image_count} {part.seed} {part.source_sha256}\n" for part in parts)


@transaction.atomic
def freeze(corpus: Corpus, *, by: User | None, now: datetime) -> Corpus:
    """Freeze the mixture; contributions withdrawn or isolated meanwhile leave it."""
    corpus = _open_corpus(corpus)
    # No rule of ours lets an embargo begin here; a row that somebody edited by hand would still be used too early.
    gone = corpus.parts.filter(contribution__isnull=False).exclude(contribution__in=embargo.usable(now=now))
    left = list(gone.select_related("contribution", "corpus"))
    for part in left:
        assert part.contribution is not None  # as filtered
        audit.record(LEFT, part.contribution, by=by, **_facts(part))
    corpus.parts.filter(pk__in=[part.pk for part in left]).delete()
    corpus.manifest_sha256 = hashlib.sha256(manifest(corpus).encode()).hexdigest()
    corpus.frozen_at = now
    corpus.save(update_fields=["manifest_sha256", "frozen_at"])
    audit.record("corpus.frozen", corpus, by=by, manifest_sha256=corpus.manifest_sha256)
    return corpus


def _require_training(contributions: Iterable[Contribution]) -> None:
    uses.require(contributions, Purpose.TRAINING, remedy="Compose the corpus without it.")


def require_trainable(corpus: Corpus, *, now: datetime) -> None:
    """
    Refuse further training on what has changed after the freeze.

    Raises:
        NotApproved: a contribution left the consortium.
        OtherProgramme: one belongs to another programme; such corpora were frozen before that was refused.
        Isolated: one is isolated.
        UnderEmbargo: one may not be used yet.
        TermsExclude: its institution signed terms that exclude training.
    """
    gone = corpus.parts.filter(contribution__isnull=False).exclude(contribution__status=Status.APPROVED)
    if names := [str(part.contribution) for part in gone.select_related("contribution")]:
        verb = "is" if len(names) == 1 else "are"
        raise NotApproved(
            f"{', '.join(names)}, of which {corpus} holds images, {verb} not approved any more, and so in no further "
            "training. Compose a corpus without what was withdrawn, and train on that."
        )
    if others := [str(row) for row in contributions_in(corpus).exclude(programme=corpus.programme_id)]:
        verb = "belongs" if len(others) == 1 else "belong"
        raise OtherProgramme(
            f"{', '.join(others)}, of which {corpus} holds images, {verb} to another programme than "
            f"{corpus.programme}, so no model of it learns from that. Compose a corpus without it, and train on that."
        )
    for contribution in contributions_in(corpus).filter(pk__in=isolation.isolated()):
        isolation.require_none(contribution)
    for contribution in contributions_in(corpus).filter(embargo_until__gt=embargo.today(now)):
        embargo.require_over(contribution, now=now)
    _require_training(contributions_in(corpus))


def contributions_in(corpus: Corpus) -> QuerySet[Contribution]:
    """Return the contributions of which the corpus holds images."""
    return Contribution.objects.filter(corpus_parts__corpus=corpus)


def credits_of(corpus: Corpus) -> list[str]:
    """
    Return whose contributions are in the corpus: by name, and at the end how many asked not to be named.

    What was merged and what it was merged into are one, which goes by its name of today.
    """
    given = contributions_in(corpus).values("institution")
    givers = Institution.objects.filter(pk__in=given).select_related("merged_into")
    named = {institutions.acting_for(giver): giver.is_named for giver in sorted(givers, key=lambda row: row.is_named)}
    names = sorted(giver.name for giver, is_named in named.items() if is_named)
    unnamed = len(named) - len(names)
    if not unnamed:
        return names
    return [*names, f"{'one institution' if unnamed == 1 else f'{unnamed} institutions'} that asked not to be named"]
