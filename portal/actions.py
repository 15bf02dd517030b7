"""What a person may do with an object now: pages make buttons of it, the API lists it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """One thing that can be done; where it is not allowed now, `reason` says why and `code` says it to programs."""

    name: str
    label: str
    allowed: bool
    reason: str = ""
    url: str = ""
    method: str = "post"
    code: str = ""
