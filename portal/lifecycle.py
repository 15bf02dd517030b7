"""What every lifecycle table has in common: looking a move up, and drawing the table."""

from collections.abc import Mapping
from typing import Any

from portal.errors import DomainError


class TransitionNotAllowed(DomainError):
    """The object is in a state from which this step is not possible."""

    code = "transition_not_allowed"


def verb(table: Mapping[tuple[Any, Any], str], before: Any, target: Any, *, subject: object) -> str:
    """
    Return the audit verb of the move from `before` to `target`.

    Raises:
        TransitionNotAllowed: the table has no such pair.
    """
    if (before, target) not in table:
        raise TransitionNotAllowed(
            f"{subject} is {before.label.lower()}, so it cannot become {target.label.lower()}. Reload the page to see "
            "what is possible now."
        )
    return table[before, target]


def mermaid(table: Mapping[tuple[Any, Any], str]) -> str:
    """Return the table as a Mermaid state diagram."""
    lines = [f"    {before.value} --> {after.value}: {name.split('.')[1]}" for (before, after), name in table.items()]
    return "\n".join(["stateDiagram-v2", *lines])
