"""Which rule a question follows: per kind, and per programme where it has its own."""

from datetime import datetime
from typing import Any

from django.db import transaction

from governance.board.lifecycle import Status
from governance.board.models import RULE_FIELDS, BallotRule, Kind, Motion
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.programmes.models import Programme

# Where a kind differs from the defaults of `RuleFields`: half of those who may vote but at least three, more for than
# against, fourteen days.
DEFAULTS: dict[str, dict[str, Any]] = {
    Kind.ADMIT_INSTITUTION: {"electorate": "consortium"},
    Kind.APPROVE_CONTRIBUTION: {"reviewers": 2},
    Kind.RELEASE_MODEL: {"threshold": "two_thirds"},
    Kind.RETRACT_RELEASE: {"days": 7},
    Kind.SETTLE_WITHDRAWAL: {},
    Kind.PUBLISH_AGREEMENT: {"threshold": "two_thirds"},
    Kind.ADOPT_TASK: {},
    Kind.GIVE_SEAT: {"threshold": "two_thirds"},
}


def rule_for(kind: str, programme: Programme | None) -> BallotRule:
    """Return the rule for a kind of question: the programme's own, else the consortium's, else the default."""
    rows = {row.programme_id: row for row in BallotRule.objects.filter(kind=kind)}
    if programme is not None and programme.pk in rows:
        return rows[programme.pk]
    return rows.get(None) or BallotRule(kind=kind, **DEFAULTS[kind])


def copied(rule: BallotRule, programme: Programme | None) -> dict[str, Any]:
    """Return the fields of a motion under a rule. What concerns no single programme is voted by the seats of all."""
    fields = {name: getattr(rule, name) for name in RULE_FIELDS}
    return fields if programme is not None else {**fields, "electorate": "consortium"}


def may_set(user: User) -> bool:
    """Test if the person sets rules: the chair and operators; the rules themselves are on a public page."""
    return accounts.has_role(user, "chair", "operator")


@transaction.atomic
def set_rule(kind: str, programme: Programme | None, *, by: User, now: datetime, **fields: Any) -> BallotRule:
    """
    Set how a kind of question is decided. Open motions on which nobody has voted follow; the others keep theirs.

    Args:
        fields: some of RULE_FIELDS. `days` and `reviewers` touch later motions only.
    """
    if not may_set(by):
        raise NotAllowed("Only the chair or an operator sets how the board decides.")
    rule = rule_for(kind, programme)
    before = {name: getattr(rule, name) for name in fields}
    own, _ = BallotRule.objects.select_for_update().get_or_create(
        kind=kind, programme=programme, defaults={name: getattr(rule, name) for name in RULE_FIELDS}
    )
    for name, value in fields.items():
        setattr(own, name, value)
    own.set_at, own.set_by = now, by
    own.save()
    audit.record("rule.set", own, by=by, before=before, after=fields)
    for motion in _followers(own):
        _follow(motion, own)
    return own


def _followers(rule: BallotRule) -> list[Motion]:
    """Return the motions without a ballot that the rule is for."""
    found = Motion.objects.select_for_update(of=("self",)).undecided().filter(kind=rule.kind, votes__isnull=True)
    if rule.programme_id is not None:
        return list(found.filter(programme=rule.programme_id))
    own = BallotRule.objects.filter(kind=rule.kind, programme__isnull=False).values("programme")
    return list(found.exclude(programme__in=own))


def _follow(motion: Motion, rule: BallotRule) -> None:
    fields = copied(rule, motion.programme)
    kept = {"days", "reviewers"} if motion.status == Status.OPEN else {"reviewers"}
    changes = {name: value for name, value in fields.items() if name not in kept}
    for name, value in changes.items():
        setattr(motion, name, value)
    motion.save(update_fields=list(changes))
