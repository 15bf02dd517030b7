"""What a draft still lacks before it can be submitted, and the list of files that its submission fixes."""

from django.urls import reverse
from django.utils import timezone

from contributions import attestations, kinds
from contributions.models import Contribution, ContributionFile
from jobs.kit import cards
from portal.agreements import services as agreements
from portal.errors import DomainError
from portal.programmes import services as programmes

State = ContributionFile.State


class CardIncomplete(DomainError):
    """Something that the training card needs is missing."""

    code = "card_incomplete"


class FilesIncomplete(DomainError):
    """There is no file, or one has not arrived whole."""

    code = "files_incomplete"


def manifest(contribution: Contribution) -> str:
    """
    Return the text of SHA256SUMS: one line per file, by name, as `sha256sum -c` reads it.

    The names are sorted here by their characters, as the kit sorts them before it signs: a database in English puts
    "a.tar" before "Z.tar".
    """
    files = sorted(contribution.files.values_list("name", "sha256"))
    return "".join(f"{sha256}  {name}\n" for name, sha256 in files)


def may_contribute(contribution: Contribution) -> agreements.Decision:
    """Answer whether the institution's agreements let it send this kind now, or, once it is sent, still cover it."""
    return agreements.may(
        contribution.institution,
        agreements.ACTION_OF_KIND[contribution.kind],
        programme=contribution.programme,
        sent=contribution.submitted_at is not None,
        now=timezone.now(),
    )


def obstacles(contribution: Contribution) -> list[DomainError]:
    """Return everything that keeps a draft from being submitted, each with where to settle it."""
    found: list[DomainError] = []
    try:
        programmes.require_takes(contribution.programme, contribution.kind)
    except DomainError as exc:
        found.append(exc)
    decision = may_contribute(contribution)
    if not decision.allowed:
        found.append(agreements.AgreementRequired(decision))
    found.extend(_card_obstacles(contribution))
    if not contribution.files.exists() or contribution.files.filter(state=State.UPLOADING).exists():
        here = reverse("contributions:upload", args=[contribution.pk])
        found.append(
            FilesIncomplete(
                f"{kinds.of(contribution.kind).what} have not arrived whole. Upload them first.", next_url=here
            )
        )
    if lacking := attestations.missing(contribution):
        here = reverse("contributions:upload", args=[contribution.pk])
        names = " and ".join(kind.label.lower() for kind in lacking)
        found.append(
            attestations.AttestationsMissing(f"Missing: {names}. The kit makes them; add them here.", next_url=here)
        )
    return found


def _card_obstacles(contribution: Contribution) -> list[DomainError]:
    base = contribution.base_model
    problems = cards.problems(contribution.training_card, base_sha256=base.sha256 if base else "")
    if not problems:
        return []
    sentences = ["The training card is not complete."]
    missing = [cards.FIELDS[problem.field][0].lower() for problem in problems if problem.missing]
    if missing:
        sentences.append(f"Missing: {', '.join(missing)}.")
    sentences += [problem.sentence for problem in problems if not problem.missing]
    return [CardIncomplete(" ".join(sentences), next_url=reverse("contributions:card", args=[contribution.pk]))]
