"""Contributions before they are submitted: begun, changed, begun again as the correction of another."""

import unicodedata
from datetime import date, datetime
from http import HTTPStatus
from typing import Any, TypedDict, Unpack

from django.db import transaction

from contributions import embargo, kinds
from contributions.lifecycle import CLOSED, Status
from contributions.models import Contribution
from contributions.reports import storable
from contributions.rules import require_not_moved, require_steward
from jobs.kit import cards
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError
from portal.institutions import services as institutions
from portal.institutions.models import Institution
from portal.programmes import services as programmes
from portal.programmes.models import BaseModel

UNSHOWN = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}  # Cf stays: joiners belong to the scripts of many languages
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


class Details(TypedDict, total=False):
    """What changes while a contribution is a draft; what is left out stays as it is."""

    title: str
    base_model: BaseModel
    training_card: dict[str, Any]
    embargo_until: date | None


class KindNotOpen(DomainError):
    """This kind of contribution cannot be made yet."""

    code = "kind_not_open"


class OtherProgramme(DomainError):
    """A contribution stays in the programme that it was begun in."""

    code = "other_programme"


class NotADraft(DomainError):
    """The details of a contribution change only while it is a draft."""

    code = "not_a_draft"


class CardRefused(DomainError):
    """Something in the training card is wrong."""

    code = "card_refused"
    status = HTTPStatus.BAD_REQUEST


class TitleRefused(DomainError):
    """A title is one line that can be shown anywhere: on a page, in a mail, on a terminal."""

    code = "title_refused"
    status = HTTPStatus.BAD_REQUEST


class ChangedMeanwhile(DomainError):
    """Somebody else has changed what was to be changed since it was read."""

    code = "changed_meanwhile"


class CannotReplace(DomainError):
    """Only a rejected, returned or withdrawn contribution is corrected by a new one, once."""

    code = "cannot_replace"


def _valid(card: dict[str, Any]) -> dict[str, Any]:
    """Return a card as it is kept. What is wrong is refused at once: a small cell is never stored."""
    wrong = [problem.sentence for problem in cards.problems(card) if not problem.missing]
    if wrong:
        raise CardRefused(" ".join(wrong))
    return storable(card)


def require_shown(title: str) -> None:
    """Raise TitleRefused for controls, line breaks, and what turns the direction of the text around it (UAX 9)."""
    if any(unicodedata.category(letter) in UNSHOWN or unicodedata.bidirectional(letter) in TURNING for letter in title):
        raise TitleRefused(
            "The title holds a line break or a character that cannot be seen. Type it again, on one line."
        )


@transaction.atomic
def draft(
    institution: Institution,
    *,
    kind: str,
    title: str,
    base_model: BaseModel | None,
    training_card: dict[str, Any],
    by: User,
    now: datetime,
    embargo_until: date | None = None,
    supersedes: Contribution | None = None,
) -> Contribution:
    """Begin a contribution. Needs no agreement yet: submit does."""
    require_steward(by, institution)
    if kind not in kinds.OPEN or base_model is None:
        raise KindNotOpen("Generator weights and synthetic images can be contributed, each of a registered base model.")
    programmes.require_takes(base_model.programme, kind)
    require_shown(title)
    training_card = _valid(training_card)
    if embargo_until is not None:
        embargo.require_possible(embargo_until, begun_at=now, now=now)
    contribution = Contribution.objects.create(
        programme=base_model.programme,
        institution=institution,
        kind=kind,
        title=title,
        base_model=base_model,
        training_card=training_card,
        embargo_until=embargo_until,
        status_since=now,
        supersedes=supersedes,
        created_by=by,
        created_at=now,
    )
    facts = {"supersedes": supersedes.pk} if supersedes else {}
    audit.record("contribution.drafted", contribution, by=by, kind=kind, base_model=str(base_model), **facts)
    return contribution


@transaction.atomic
def change(
    contribution: Contribution, *, by: User, now: datetime, as_read: bool = False, **given: Unpack[Details]
) -> Contribution:
    """
    Change what is given of a draft; with `as_read` only what stands still as it does in the object that is handed in.

    Raises:
        ChangedMeanwhile: something of it was changed since that was read.
    """
    require_steward(by, contribution.institution)
    read, contribution = contribution, Contribution.objects.select_for_update().get(pk=contribution.pk)
    if contribution.status != Status.DRAFT:
        raise NotADraft(f"{contribution} is {contribution.get_status_display().lower()} and does not change any more.")
    require_not_moved(contribution)
    if "base_model" in given:
        _require_same_programme(contribution, given["base_model"])
    if "title" in given:
        require_shown(given["title"])
    if "training_card" in given:
        given["training_card"] = _valid(given["training_card"])
    changed = {field: value for field, value in given.items() if value != getattr(contribution, field)}
    if as_read and any(getattr(read, field) != getattr(contribution, field) for field in changed):
        raise ChangedMeanwhile(
            f"{contribution} was saved in another window, or by somebody else, at this moment. Nothing was saved here: "
            "look at what stands there now, and do it once more if it is still meant."
        )
    if (day := given.get("embargo_until")) and "embargo_until" in changed:
        embargo.require_possible(day, begun_at=contribution.created_at, now=now)
    for field, value in changed.items():
        setattr(contribution, field, value)
    if changed:
        contribution.save(update_fields=list(changed))
        audit.record("contribution.changed", contribution, by=by, fields=sorted(changed))
    return contribution


def _require_same_programme(contribution: Contribution, base_model: BaseModel) -> None:
    if base_model.programme_id != contribution.programme_id:
        raise OtherProgramme(
            f"{base_model} belongs to {base_model.programme}, and {contribution} to {contribution.programme}. Begin "
            "another contribution for it."
        )


@transaction.atomic
def replace(contribution: Contribution, *, by: User, now: datetime) -> Contribution:
    """Begin the corrected contribution of one that is closed, with its training card and its embargo."""
    contribution = Contribution.objects.select_for_update().get(pk=contribution.pk)
    if (successor := Contribution.objects.filter(supersedes=contribution).first()) is not None:
        raise CannotReplace(f"A correction has been begun already: {successor}.", next_url=successor.get_absolute_url())
    if contribution.status not in CLOSED:
        raise CannotReplace(
            f"{contribution} is {contribution.get_status_display().lower()}. Withdraw it before you replace it."
        )
    return draft(
        institutions.acting_for(contribution.institution),
        kind=contribution.kind,
        title=contribution.title,
        base_model=contribution.base_model,
        training_card=contribution.training_card,
        embargo_until=embargo.until(contribution, now=now),
        by=by,
        now=now,
        supersedes=contribution,
    )
