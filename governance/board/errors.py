"""What the board refuses."""

from portal.errors import DomainError


class VoteRefused(DomainError):
    """The vote does not count: the ballot is closed, or something that must be said is missing."""

    code = "vote_refused"


class NotDeclared(DomainError):
    """The member has not said yet whether there is an interest in the outcome."""

    code = "interests_not_declared"


class AlreadyDeclared(DomainError):
    """The question about interests was answered."""

    code = "already_declared"


class NotPossibleNow(DomainError):
    """The motion, its review or its condition is past this step."""

    code = "not_possible_now"


class ProposalInvalid(DomainError):
    """The board cannot be asked this."""

    code = "proposal_invalid"
