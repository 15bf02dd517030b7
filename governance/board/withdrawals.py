"""Telling the chair of what is in use no more after a corpus was frozen with it: what follows, the board settles."""

from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.urls import reverse

from contributions import isolation
from contributions.corpora.models import CorpusPart
from contributions.models import Contribution
from governance.board.counting import chairs, electorate
from governance.board.lifecycle import Status
from governance.board.models import Kind, Motion
from governance.board.rules import copied, rule_for
from portal.accounts.models import User
from portal.institutions import services as institutions
from portal.notifications import services as notifications
from portal.notifications.services import notify
from portal.notifications.types import Type

REMIND_EVERY = timedelta(days=14)


def unsettled() -> QuerySet[Contribution]:
    """
    Return the withdrawn contributions of which a frozen corpus holds images, and that no motion asked about.

    A corpus that is not frozen loses them by itself, so nothing follows. A motion that was taken back asked nothing.
    """
    frozen = CorpusPart.objects.filter(corpus__frozen_at__isnull=False, contribution__isnull=False)
    asked = Motion.objects.filter(kind=Kind.SETTLE_WITHDRAWAL).exclude(status=Status.WITHDRAWN)
    withdrawn = Contribution.objects.filter(status="withdrawn", pk__in=frozen.values("contribution"))
    return withdrawn.exclude(pk__in=asked.values("contribution")).order_by("pk")


def remind(*, now: datetime) -> None:
    """Tell who is to propose what follows, and again every REMIND_EVERY until it is proposed."""
    rows = unsettled().select_related("institution__merged_into", "programme")
    keys = {f"withdrawal-{row.pk}-{(now - row.status_since) // REMIND_EVERY}": row for row in rows}
    told = notifications.told(keys)
    for key, contribution in keys.items():
        if key not in told:
            _tell(contribution, key)


def _tell(contribution: Contribution, key: str) -> None:
    if isolation.ended(contribution):
        what, how = "was taken out of use after an incident", "It was taken out of use"
    else:
        what, how = "was withdrawn", f"{contribution.institution} took it back"
    notify(
        _who_proposes(contribution),
        type=Type.BALLOT,
        subject=f"{contribution} {what}: the board is to settle what follows",
        text=f"{how} after a corpus was frozen with images of it, so models may have learnt from it. Nothing follows "
        "by itself. Propose to the board what does:",
        path=reverse("board:new", args=[Kind.SETTLE_WITHDRAWAL]) + f"?contribution={contribution.pk}",
        key=key,
    )


def _who_proposes(contribution: Contribution) -> QuerySet[User]:
    """Return the chair; where the chair belongs to its institution, or there is none, the others of the board."""
    programme = contribution.programme
    motion = Motion(programme=programme, **copied(rule_for(Kind.SETTLE_WITHDRAWAL, programme), programme))
    own = institutions.people_acting_for(contribution.institution)
    chair = chairs(motion).exclude(pk__in=own)
    return chair if chair.exists() else electorate(motion).exclude(pk__in=own)
