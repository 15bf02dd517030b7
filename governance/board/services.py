"""
Everything that the board does, by one name: `boards.refer_contribution`, `boards.cast_vote`, `boards.close_due`, ...

opening.py brings questions before it, rules.py says how each is decided, reviews.py comes before the ballot,
conflicts.py recuses, ballots.py votes, tally.py counts, closing.py closes, effects.py is what a decision does;
discussion.py, conditions.py, meetings.py and withdrawals.py are what surrounds it.
"""

from governance.board.ballots import cast_vote, recuse
from governance.board.closing import (
    REMIND_BEFORE,
    chair_until,
    close_due,
    close_moot,
    decide_tie,
    due,
    is_moot,
    may_take_back,
    nudge,
    return_for_changes,
    take_back,
    waited_for,
)
from governance.board.conflicts import (
    can_vote,
    declare,
    end_interest,
    has_declared,
    hits_for,
    is_seated,
    recused,
    register_interest,
    require_declared,
    require_voter,
    sync_recusals,
)
from governance.board.counting import arithmetic, chairs, count, counts, electorate, is_secretary, last_votes
from governance.board.discussion import (
    answer_release,
    comment,
    dissent,
    may_dissent,
    reply,
    require_reader_of_discussion,
)
from governance.board.effects import CONSEQUENCES, EFFECTS, releases_of
from governance.board.errors import (
    AlreadyDeclared,
    NotDeclared,
    NotPossibleNow,
    ProposalInvalid,
    VoteRefused,
)
from governance.board.opening import (
    may_propose,
    may_put_again,
    proposable_programmes,
    propose_release,
    propose_retraction,
    propose_seat,
    propose_settlement,
    propose_task,
    propose_version,
    put_again,
    refer_contribution,
    refer_institution,
)
from governance.board.reviews import assign as assign_reviewer
from governance.board.reviews import submit as submit_review
from governance.board.rules import may_set, rule_for, set_rule
from governance.board.sweeping import sweep

__all__ = [
    "CONSEQUENCES",
    "EFFECTS",
    "REMIND_BEFORE",
    "AlreadyDeclared",
    "NotDeclared",
    "NotPossibleNow",
    "ProposalInvalid",
    "VoteRefused",
    "answer_release",
    "arithmetic",
    "assign_reviewer",
    "can_vote",
    "chair_until",
    "cast_vote",
    "chairs",
    "close_due",
    "close_moot",
    "comment",
    "count",
    "counts",
    "decide_tie",
    "declare",
    "dissent",
    "due",
    "electorate",
    "end_interest",
    "has_declared",
    "hits_for",
    "is_moot",
    "is_seated",
    "is_secretary",
    "last_votes",
    "may_dissent",
    "may_propose",
    "may_put_again",
    "may_set",
    "may_take_back",
    "nudge",
    "proposable_programmes",
    "propose_release",
    "propose_retraction",
    "propose_seat",
    "propose_settlement",
    "propose_task",
    "propose_version",
    "put_again",
    "recuse",
    "recused",
    "refer_contribution",
    "refer_institution",
    "register_interest",
    "releases_of",
    "reply",
    "require_declared",
    "require_reader_of_discussion",
    "require_voter",
    "return_for_changes",
    "rule_for",
    "set_rule",
    "submit_review",
    "sweep",
    "sync_recusals",
    "take_back",
    "waited_for",
]
