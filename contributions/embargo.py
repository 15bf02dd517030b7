"""
"Not to be used before DATE": for an institution that will publish about its data first.

Such a contribution is checked and voted on as usual. Until the day no corpus, training or check of others takes it in,
and only its institution, the board, operators and auditors see what it is. Others count on the day once it is
submitted: from then on it only comes nearer.
"""

from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus

from django.db import transaction
from django.db.models import F, Max, Q, QuerySet

from contributions import isolation
from contributions.lifecycle import LIVE, Status
from contributions.models import LONGEST_EMBARGO, Contribution, Isolation
from contributions.rules import require_steward
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError
from portal.institutions import services as institutions
from portal.institutions.models import Institution
from portal.live import announce
from portal.notifications import services as notifications
from portal.notifications.services import notify
from portal.notifications.types import Type

PROVENANCE = 4  # the check that reads from images what drew them
TOLD_FOR = timedelta(days=7)  # so long a sweep that was down may still tell that an embargo ended


class UnderEmbargo(DomainError):
    """Nothing uses a contribution before the day that its institution gave."""

    code = "under_embargo"


class EmbargoRefused(DomainError):
    """The day is in the past, too far away, or no longer one to choose."""

    code = "embargo_refused"
    status = HTTPStatus.BAD_REQUEST


class NotUnderEmbargo(DomainError):
    """There is no embargo to make earlier or to lift."""

    code = "not_under_embargo"


def today(now: datetime) -> date:
    """Return the day in UTC: embargoes end at midnight there."""
    return now.astimezone(UTC).date()


def until(contribution: Contribution, *, now: datetime) -> date | None:
    """Return the first day on which it may be used, while that is to come."""
    day = contribution.embargo_until
    return day if day is not None and day > today(now) else None


def usable(*, now: datetime) -> QuerySet[Contribution]:
    """Return what may enter corpora, trainings and checks of others: approved, not isolated, under no embargo."""
    return isolation.usable().exclude(embargo_until__gt=today(now))


def require_over(contribution: Contribution, *, now: datetime) -> None:
    """Raise UnderEmbargo before the day."""
    if (day := until(contribution, now=now)) is not None:
        raise UnderEmbargo(
            f"{contribution} is under embargo: {contribution.institution} lets nobody use it before {day:%-d %B %Y}. "
            "Leave it out until then, or ask the institution to lift the embargo.",
            next_url=contribution.get_absolute_url(),
        )


def problem(day: date, *, begun_at: datetime, now: datetime) -> str:
    """Return what is wrong with the day for a draft, or nothing."""
    if day <= today(now):
        return "An embargo ends on a day that is to come. Give a later one, or leave it out."
    latest = today(begun_at) + LONGEST_EMBARGO
    if day > latest:
        return f"An embargo lasts two years at most. Give a day up to {latest:%-d %B %Y}."
    return ""


def require_possible(day: date, *, begun_at: datetime, now: datetime) -> None:
    """Raise EmbargoRefused where a draft cannot have that day."""
    if sentence := problem(day, begun_at=begun_at, now=now):
        raise EmbargoRefused(sentence)


def may_change(contribution: Contribution, *, now: datetime) -> bool:
    """Test if there is an embargo that can be made earlier or lifted; that of a draft is changed with its details."""
    return contribution.status in LIVE and until(contribution, now=now) is not None


def require_changeable(contribution: Contribution, *, now: datetime) -> None:
    """Raise NotUnderEmbargo where there is nothing to make earlier or to lift."""
    if not may_change(contribution, now=now):
        raise NotUnderEmbargo(why_not(contribution), next_url=contribution.get_absolute_url())


def why_not(contribution: Contribution) -> str:
    """Say why there is no embargo to change."""
    if contribution.status == Status.DRAFT:
        return f"{contribution} is a draft: the day from which it may be used is one of its details."
    if contribution.status not in LIVE:
        return f"{contribution} is {contribution.get_status_display().lower()}, so nothing uses it."
    return f"{contribution} is under no embargo. Once it is submitted, it cannot be put under one."


@transaction.atomic
def change(contribution: Contribution, *, day: date | None, by: User, now: datetime) -> Contribution:
    """
    Have an embargo end on an earlier day, or at once (None), which nobody can take back.

    Raises:
        NotUnderEmbargo: see require_changeable().
        EmbargoRefused: the new day is not between today and the one that holds.
    """
    require_steward(by, contribution.institution)
    contribution = Contribution.objects.select_for_update().get(pk=contribution.pk)
    require_changeable(contribution, now=now)
    before = contribution.embargo_until
    assert before is not None  # as required
    if day is not None and not today(now) < day < before:
        raise EmbargoRefused(
            f"The embargo on {contribution} ends on {before:%-d %B %Y}, and others count on that: it can only end "
            "earlier. Give a day before that one and after today, or lift it."
        )
    contribution.embargo_until = day
    contribution.save(update_fields=["embargo_until"])
    audit.record(
        "contribution.embargo_changed", contribution, by=by, before=before.isoformat(), until=day and day.isoformat()
    )
    announce(f"contribution-{contribution.pk}")
    if day is None:
        subject, text = f"The embargo on {contribution} is lifted", f"It was to last until {before:%-d %B %Y}."
    else:
        subject = f"The embargo on {contribution} ends earlier"
        text = f"It may be used from {day:%-d %B %Y} on, not only from {before:%-d %B %Y} on."
    _tell(contribution, subject, f"{text} The contribution is here:", but=by)
    return contribution


def inherit(images: Contribution, *, now: datetime) -> str:
    """
    Put images that passed their checks under the embargo of the generator that drew them; return what to tell of it.

    What was drawn shows what was learnt. Only where the generator's embargo ends later than their own, and once, so
    that a generator sent afterwards keeps nothing back that is in use. The institution can lift it on the images alone.
    """
    day = _of_generator(images, now=now)
    if day is None or (images.embargo_until is not None and images.embargo_until >= day):
        return ""
    images.embargo_until = day
    images.save(update_fields=["embargo_until"])
    audit.record("contribution.embargo_inherited", images, by=None, until=day.isoformat())
    return f" Like the generator that drew them, nobody uses the images before {day:%-d %B %Y}."


def _of_generator(images: Contribution, *, now: datetime) -> date | None:
    """Return until when the institution's generator, as check 4 read it from the images, is under embargo."""
    said = images.check_results.filter(number=PROVENANCE).order_by("run_id", "attempt").last()
    sha256 = said.evidence.get("generator_sha256") if said else None
    if images.kind != Contribution.Kind.SYNTHETIC or not sha256:
        return None
    own = Institution.objects.one_with(images.institution)
    generators = Contribution.objects.filter(
        kind=Contribution.Kind.WEIGHTS, institution__in=own, status__in=LIVE, files__sha256=sha256
    )
    ends = generators.filter(embargo_until__gt=today(now)).aggregate(latest=Max("embargo_until"))["latest"]
    return ends and min(ends, today(images.created_at) + LONGEST_EMBARGO)


def tell_of_ends(*, now: datetime) -> None:
    """
    Tell once that the embargo on an approved contribution is over; what was approved later needs no such word.

    What was isolated on the day is told of once that is lifted, however long it lasted.
    """
    kept_beyond = Isolation.objects.filter(
        placed_at__date__lte=F("contribution__embargo_until") + TOLD_FOR, lifted_at__gte=now - TOLD_FOR
    )
    lately = Q(embargo_until__gte=today(now) - TOLD_FOR) | Q(pk__in=kept_beyond.values("contribution"))
    ended = isolation.usable().filter(lately, embargo_until__lte=today(now))
    rows = [row for row in ended.select_related("institution", "programme") if _was_kept(row)]
    keys = {f"embargo-{row.pk}-{row.embargo_until}": row for row in rows}
    told = notifications.told(keys)
    for key, row in keys.items():
        if key not in told:
            text = "It may be used from today on: corpora and trainings can take it in. The contribution is here:"
            _tell(row, f"The embargo on {row} is over", text, key=key)


def _was_kept(row: Contribution) -> bool:
    return row.decided_at is not None and row.embargo_until is not None and today(row.decided_at) < row.embargo_until


def _tell(contribution: Contribution, subject: str, text: str, *, but: User | None = None, key: str = "") -> None:
    """Tell the institution's people and, once it is approved, the chair, who may want it in a corpus."""
    told = set(institutions.people_acting_for(contribution.institution))
    if contribution.status == Status.APPROVED:
        told |= set(accounts.chairs_of(contribution.programme))
    path = contribution.get_absolute_url()
    notify(told - {but}, type=Type.CONTRIBUTION, subject=subject, text=text, path=path, key=key)
