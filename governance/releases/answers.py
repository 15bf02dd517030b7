"""What institutions say of the release of a model that learnt from what they gave; the board reads it and decides."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from contributions.corpora import services as corpora
from contributions.rules import STEWARDS, institutions_to_act_for, require_steward
from governance.releases.lifecycle import NOT_PUBLIC, Status
from governance.releases.models import Release, SiteAnswer
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions import services as institutions
from portal.institutions.models import Institution
from portal.notifications.services import notify
from portal.notifications.types import Type

APPROVES, OBJECTS = SiteAnswer.Answer
VERBS = {APPROVES: "release.site_approved", OBJECTS: "release.site_objected"}
FEWEST_COUNTED = 3  # in public: of one institution the count is its answer, and of two each would read the other's


class NoLongerAsked(DomainError):
    """The board has decided, so the answers stay as they are."""

    code = "release_not_proposed"


@dataclass(frozen=True)
class Line:
    """An institution that is asked, and what it answered, if it has."""

    institution: Institution
    answer: SiteAnswer | None


@dataclass(frozen=True)
class Counts:
    """How many institutions are asked, and how many of them said what."""

    asked: int
    approved: int
    objected: int

    @property
    def silent(self) -> int:
        return self.asked - self.approved - self.objected


def asked(release: Release) -> list[Institution]:
    """Return the institutions that act today for what the release learnt from, by name."""
    corpus = release.candidate.corpus
    assert corpus is not None  # only trained candidates are proposed: a database constraint
    given = corpora.contributions_in(corpus).values("institution")
    givers = Institution.objects.filter(pk__in=given).select_related("merged_into")
    return sorted({institutions.acting_for(giver) for giver in givers}, key=lambda row: row.name)


def lines(release: Release) -> list[Line]:
    """Return every institution that is asked with its answer; for the board, operators and auditors alone."""
    rows = release.site_answers.select_related("institution__merged_into", "by")
    # Of two that were merged after both had answered an objection stands until they answer as one.
    given = {institutions.acting_for(row.institution).pk: row for row in sorted(rows, key=lambda row: row.answer)}
    return [Line(institution, given.get(institution.pk)) for institution in asked(release)]


def lines_of(user: User, release: Release) -> list[Line]:
    """Return the lines of the institutions that the person manages."""
    own = set(institutions_to_act_for(user).values_list("pk", flat=True))
    return [line for line in lines(release) if line.institution.pk in own]


def count(rows: Iterable[Line]) -> Counts:
    """Count what was answered."""
    said = [row.answer.answer if row.answer else "" for row in rows]
    return Counts(len(said), said.count(APPROVES), said.count(OBJECTS))


def public_count(release: Release) -> Counts | None:
    """Return what the public reads of a model that was released; None where it would give an institution away."""
    if release.status in NOT_PUBLIC:
        return None
    counts = count(lines(release))
    tells_who_objected = counts.asked - counts.objected < 2  # one that did not would read that all others did
    return None if counts.asked < FEWEST_COUNTED or tells_who_objected else counts


def ask(release: Release) -> None:
    """Tell the people who manage the institutions that they are asked."""
    for institution in asked(release):
        notify(
            institutions.people(institution, *STEWARDS),
            type=Type.CONTRIBUTION,
            subject=f"{release} is proposed for release: what does {institution} say?",
            text=f"The model learnt from what {institution} contributed. Before the board of the consortium decides "
            f"whether to release it under {release.license.spdx_id}, you can say on its page whether {institution} "
            "approves or objects. Silence is not taken for an objection, and an objection is no veto: the board reads "
            "the reason and decides. You can answer, and change the answer, until it has.",
            path=release.get_absolute_url(),
        )


def require_may_answer(release: Release, institution: Institution, *, by: User) -> None:
    """
    Refuse who cannot answer for the institution.

    Raises:
        NotAllowed: the person does not manage the institution, or it is not asked.
        NoLongerAsked: the release is not before the board any more.
    """
    require_steward(by, institution)
    if institution not in asked(release):
        raise NotAllowed(f"{release} did not learn from anything that {institution} contributed, so it is not asked.")
    if release.status != Status.PROPOSED:
        raise NoLongerAsked(
            f"{release} is {release.get_status_display().lower()}: the board has decided, and what institutions "
            "answered stays as it is.",
            next_url=release.get_absolute_url(),
        )


def _of(release: Release, institution: Institution) -> QuerySet[SiteAnswer]:
    """Return what the institution answered, or those that were merged into it."""
    return release.site_answers.filter(institution__in=Institution.objects.one_with(institution))


def objects_already(release: Release, institution: Institution) -> bool:
    """Test if the board has an objection of the institution before it."""
    return _of(release, institution).filter(answer=OBJECTS).exists()


@transaction.atomic
def answer(
    release: Release, institution: Institution, *, answer: str, reason: str, by: User, now: datetime
) -> SiteAnswer:
    """
    Say for an institution whether it approves of a proposed release; a later answer replaces the earlier one.

    Raises:
        ReasonMissing: an objection without a reason.
        As require_may_answer().
    """
    release = Release.objects.select_for_update(of=("self",)).select_related("candidate__corpus").get(pk=release.pk)
    require_may_answer(release, institution, by=by)
    given = SiteAnswer.Answer(answer)
    if given == OBJECTS and not reason.strip():
        raise institutions.ReasonMissing("Say in a sentence why your institution objects: the board reads it.")
    _of(release, institution).delete()
    row = SiteAnswer.objects.create(
        release=release, institution=institution, answer=given, reason=reason.strip(), by=by, answered_at=now
    )
    audit.record(VERBS[given], release, by=by, institution_id=institution.pk)
    return row
