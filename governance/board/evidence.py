"""What the board looks at, by the kind of the question: facts, checks, agreements, figures, the map."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from contributions import embargo, isolation, uses
from contributions.corpora import services as corpora
from contributions.lifecycle import Status as ContributionStatus
from contributions.models import Contribution
from contributions.reports import report_of
from governance.benchmarks import services as benchmarks
from governance.board.counting import last_votes
from governance.board.effects import CONSEQUENCES, releases_of
from governance.board.models import Kind, Motion
from governance.releases.models import Candidate
from governance.releases.services import purpose_under
from jobs.kit import cards
from portal.accounts import services as accounts
from portal.agreements import diff, terms
from portal.agreements import services as agreements
from portal.agreements.duo import Answer, Purpose
from portal.agreements.forms import label_of
from portal.agreements.models import SigningRequest
from portal.institutions.countries import countries
from portal.institutions.lifecycle import Status as InstitutionStatus
from portal.institutions.models import Institution

SIGNED = ("kinds", "use_codes", "purposes", "transfer_limits")  # the particulars that say what a contribution is for
ASKED = (Purpose.TRAINING, Purpose.NONCOMMERCIAL_RELEASE, Purpose.COMMERCIAL_USE)
Facts = dict[str, Any]
Subject = TypeVar("Subject")


def of(motion: Motion, *, now: datetime) -> Facts:
    """Return the evidence of a motion as the templates of its kind read it, and which templates those are."""
    template, collect = EVIDENCE[motion.kind]
    return {
        "summary_template": f"board/_{template}_summary.html",
        "evidence_template": f"board/_{template}_evidence.html",
        **collect(motion, now),
    }


def _applicant(motion: Motion, now: datetime) -> Facts:
    institution = _required(motion.institution)
    members = Institution.objects.filter(status=InstitutionStatus.MEMBER)
    return {
        "place": countries().get(institution.country),
        "from_region": members.filter(subregion=institution.subregion).exclude(pk=institution.pk).count(),
        "region_counts": Counter(members.exclude(pk=institution.pk).values_list("subregion", flat=True)),
        "people": institution.memberships.current().select_related("user"),
    }


def _contribution(motion: Motion, now: datetime) -> Facts:
    contribution = _required(motion.contribution)
    approved = Contribution.objects.filter(status=ContributionStatus.APPROVED, programme=contribution.programme)
    others = approved.exclude(pk=contribution.pk)
    subregion = contribution.institution.subregion
    isolated = isolation.current(contribution)
    return {
        "isolation": isolated,
        "kept_until": embargo.until(contribution, now=now),
        "place": countries().get(contribution.institution.country),
        "from_region": others.filter(institution__subregion=subregion).count(),
        "region_counts": Counter(others.values_list("institution__subregion", flat=True)),
        "report": report_of(contribution),
        "card": cards.read_back(contribution.training_card),
        "files": [] if isolated else contribution.files.all(),  # a name may tell it
        "agreements": _agreements(contribution, now),
        **_terms(contribution),
    }


def _agreements(contribution: Contribution, now: datetime) -> list[tuple[str, str, str]]:
    """Return (agreement, state, state in words) for each agreement of the programme that covers this kind."""
    covering = [row for row in contribution.programme.agreements.all() if contribution.kind in row.covers]
    places = agreements.standings([contribution.institution], covering, now=now)
    found = [(row, places[contribution.institution_id, row.pk]) for row in covering]
    return [(row.title, place.state.value, place.state.label) for row, place in found]


def _terms(contribution: Contribution) -> Facts:
    """Return what was signed about the use of a contribution, case by case, and what follows for what we may ask."""
    cases = uses.binding([contribution])[contribution.pk]
    answers = [terms.permits(cases, purpose) for purpose in ASKED]
    return {
        "signed": [(case, _particulars(case)) for case in cases],
        "permitted": [(answer, why) for answer, why in answers if why],
    }


def _particulars(case: SigningRequest) -> list[tuple[str, str]]:
    return [(label_of(name), words) for name in SIGNED if (words := terms.written(case, name))]


def _candidate(motion: Motion, now: datetime) -> Facts:
    release = _required(motion.release)
    given = corpora.contributions_in(_required(release.candidate.corpus))
    answers = uses.answers(given, purpose_under(release.license))
    found = of_candidate(release.candidate, until=motion.closed_at)
    newest = max((row.recorded_at for row in found["evaluations"]), default=motion.opened_at)
    return found | {
        "votes_before": sum(vote.cast_at < newest for vote in last_votes(motion)),
        "acceptors": release.acceptances.count(),
        "not_permitted": [row for row in answers if row[1] != Answer.YES],
    }


def of_candidate(candidate: Candidate, *, until: datetime | None = None) -> Facts:
    """Return the evaluations of a candidate, today or as they were at a moment, and what it learnt from."""
    evaluations = benchmarks.latest(candidate, until=until)
    corpus = candidate.corpus
    return {
        "evaluations": evaluations,
        "cells": [row.cell for row in evaluations if row.auroc is not None],
        "parts": corpus.parts.select_related("dataset", "contribution__institution") if corpus else [],
    }


def _settlement(motion: Motion, now: datetime) -> Facts:
    return {
        "consequence": CONSEQUENCES[motion.proposal["consequence"]],
        "releases": releases_of(motion).select_related("candidate"),
        "corpora": _required(motion.contribution).corpus_parts.select_related("corpus"),
    }


def _version(motion: Motion, now: datetime) -> Facts:
    newest = agreements.newest_of(_required(motion.agreement))
    before = newest.text if newest else ""
    return {"newest": newest, "stretches": diff.folded(diff.compare(before, motion.proposal["text"]))}


def _task(motion: Motion, now: datetime) -> Facts:
    task = _required(motion.task)
    return {"evaluations": task.evaluations.select_related("candidate", "task__dataset").order_by("-auroc")[:20]}


def _seat(motion: Motion, now: datetime) -> Facts:
    person = _required(motion.person)
    return {
        "memberships": person.memberships.current().select_related("institution"),
        "seats_so_far": person.consortium_roles.filter(role__in=accounts.SEATED).order_by("-started_at"),
        "interests": person.interests.select_related("institution"),
        "role": dict(person.consortium_roles.model.Role.choices)[motion.proposal["role"]],
    }


EVIDENCE: dict[str, tuple[str, Callable[[Motion, datetime], Facts]]] = {
    Kind.ADMIT_INSTITUTION: ("institution", _applicant),
    Kind.APPROVE_CONTRIBUTION: ("contribution", _contribution),
    Kind.RELEASE_MODEL: ("release", _candidate),
    Kind.RETRACT_RELEASE: ("retraction", _candidate),
    Kind.SETTLE_WITHDRAWAL: ("settlement", _settlement),
    Kind.PUBLISH_AGREEMENT: ("version", _version),
    Kind.ADOPT_TASK: ("task", _task),
    Kind.GIVE_SEAT: ("seat", _seat),
}


def _required(value: Subject | None) -> Subject:
    assert value is not None  # a database constraint holds that the motion names its subject, and a release its corpus
    return value
