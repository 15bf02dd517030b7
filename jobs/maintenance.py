"""Read-only for a while: pages are read, nothing is changed, no run begins."""

import time
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from jobs.models import Maintenance
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import NotAllowed

REMEMBERED_SECONDS = 2.0  # how much later another process may notice the switch


@dataclass
class _Memory:
    """What this process knows of the switch, and until when it need not ask again (time.monotonic)."""

    message: str | None = None
    until: float = 0.0


memory = _Memory()


def message() -> str | None:
    """Return what the banner says while the site is read-only, else None. Asked by every request."""
    if time.monotonic() >= memory.until:
        row = Maintenance.objects.filter(is_on=True).first()
        _remember(row.message if row else None)
    return memory.message


def is_on() -> bool:
    """Test if the site is read-only."""
    return message() is not None


def _remember(message: str | None) -> None:
    memory.message, memory.until = message, time.monotonic() + REMEMBERED_SECONDS


@transaction.atomic
def switch(*, on: bool, message: str = "", by: User, now: datetime) -> None:
    """Make the site read-only with a message to its readers, or open it again. What is at work goes on to its end."""
    if not accounts.has_role(by, "operator"):
        raise NotAllowed("Only an operator makes the site read-only.")
    row, _ = Maintenance.objects.update_or_create(
        pk=1, defaults={"is_on": on, "message": message if on else "", "since": now}
    )
    audit.record("maintenance.begun" if on else "maintenance.ended", row, by=by, message=message)
    transaction.on_commit(lambda: _remember(message if on else None))
