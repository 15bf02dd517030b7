"""Which kinds of contribution an institution has chosen, from when to when. It may differ from the advice."""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError
from portal.institutions import services
from portal.institutions.models import Institution, PathwayChoice
from portal.institutions.vocabulary import Pathway


class PathwayRefused(DomainError):
    """The institution has said that what it chooses may not leave."""

    code = "pathway_refused"


@transaction.atomic
def choose(institution: Institution, kinds: Iterable[str], *, by: User, now: datetime) -> set[str]:
    """Set the kinds that the institution means to contribute; the history of earlier choices stays."""
    services.require_manager(by, institution)
    institution = Institution.objects.select_for_update().get(pk=institution.pk)
    wanted, chosen = {Pathway(kind) for kind in kinds}, institution.chosen_kinds()
    for kind in sorted(wanted - chosen):
        if institution.may_leave(kind) == Institution.Answer.NO:
            raise PathwayRefused(
                f"The profile says that {kind.label.lower()} may not leave {institution}. Change that answer first, if "
                "your rules have changed."
            )
    institution.pathway_choices.filter(ended_at=None).exclude(kind__in=wanted).update(ended_at=now)
    PathwayChoice.objects.bulk_create(
        PathwayChoice(institution=institution, kind=kind, chosen_at=now, chosen_by=by) for kind in wanted - chosen
    )
    if wanted != chosen:
        audit.record("institution.pathway_chosen", institution, by=by, kinds=sorted(wanted))
    return {str(kind) for kind in wanted}
