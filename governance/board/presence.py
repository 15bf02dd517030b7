"""Who has a motion's page open now: each page says so when it asks for its live fragment."""

from django.core.cache import cache

from governance.board.counting import electorate
from governance.board.models import Motion
from portal.accounts.models import User
from portal.live import announce

SECONDS = 30  # a page asks every 10 seconds


def arrive(motion: Motion, user: User) -> None:
    """Note that the person has the page open; the others are told when it is new."""
    if cache.add(_key(motion, user.pk), 1, SECONDS):
        announce(f"motion-{motion.pk}")
    else:
        cache.touch(_key(motion, user.pk), SECONDS)


def present(motion: Motion) -> list[User]:
    """Return the members of the electorate who have the page open, by name."""
    members = list(electorate(motion))
    here = cache.get_many([_key(motion, member.pk) for member in members])
    return [member for member in members if _key(motion, member.pk) in here]


def _key(motion: Motion, user_pk: int) -> str:
    return f"here-{motion.pk}-{user_pk}"
