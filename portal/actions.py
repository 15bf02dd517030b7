"""What somebody can do with an object now: pages make buttons of it, the API lists it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """One action; a blocked one says why."""

    name: str
    label: str
    allowed: bool
    reason: str = ""
    url: str = ""
    method: str = "post"
