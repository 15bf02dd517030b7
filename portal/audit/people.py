"""
People by reference: what lasts names a person by number, and the name is looked up when it is shown.

So an account can be erased, and the log, which nobody can change, holds no name of it.
"""

import re
from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet

FORMER = "a former member"
SYSTEM = "system"
_REFERENCE = re.compile(r"\{person:(\d{1,18})\}")


def reference(user: Any) -> str:
    """Return what stands for a person in a text that lasts: `{person:17}`."""
    return f"{{person:{user.pk}}}"


def plain(text: object) -> str:
    """Return a text that somebody typed, so that nothing in it is taken for a reference."""
    return str(text).replace("{person:", "{person\u2060:")


def named_all(texts: Iterable[str]) -> list[str]:
    """Return the texts with every reference replaced by the person's name of today, in one query."""
    rows = list(texts)
    names = names_of({int(pk) for text in rows for pk in _REFERENCE.findall(text)})
    return [_REFERENCE.sub(lambda found: names[int(found[1])], text) for text in rows]


def named(text: str) -> str:
    """Return the text with every reference replaced by the person's name of today."""
    return named_all([text])[0]


def names_of(pks: set[int]) -> dict[int, str]:
    """Return the name of each person; "a former member" for who is erased or not there."""
    known = get_user_model().objects.filter(pk__in=pks, erased_at=None).values_list("pk", "name")
    return dict.fromkeys(pks, FORMER) | {pk: name or f"person {pk}" for pk, name in known}


def found(text: str) -> Q:
    """Return the condition for events of an actor: the system, an account's number, or part of a name or e-mail."""
    if text.strip().lower() == SYSTEM:
        return Q(actor_id=None)
    if text.strip().isdecimal():
        return Q(actor_id=int(text.strip()[:18]))
    return Q(actor_id__in=matching(text).values("pk"))


def matching(text: str) -> QuerySet[Any]:
    """Return the people who have `text` in the name or e-mail of today."""
    found = Q(name__icontains=text) | Q(email__icontains=text)
    return get_user_model().objects.filter(found, erased_at=None)


def numbers(text: str) -> list[int] | str:
    """Return what may be kept of a search for people: the numbers it finds, or the word for the system."""
    if text.strip().lower() == SYSTEM:
        return SYSTEM
    if text.strip().isdecimal():
        return [int(text.strip()[:18])]
    return sorted(matching(text).values_list("pk", flat=True))
