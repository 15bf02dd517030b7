"""
People by reference: what lasts names a person by number, and the name is looked up when it is shown.

So an account can be erased, and the log, which nobody can change, holds no name of it.
"""

import re
from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q

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
    names = _names_of({int(pk) for text in rows for pk in _REFERENCE.findall(text)})
    return [_REFERENCE.sub(lambda found: names[int(found[1])], text) for text in rows]


def named(text: str) -> str:
    """Return the text with every reference replaced by the person's name of today."""
    return named_all([text])[0]


def _names_of(pks: set[int]) -> dict[int, str]:
    """Return the name of each person; "a former member" for who is erased or not there."""
    known = get_user_model().objects.filter(pk__in=pks, erased_at=None).values_list("pk", "name")
    return dict.fromkeys(pks, FORMER) | {pk: name or f"person {pk}" for pk, name in known}


def found(text: str) -> Q:
    """Return the condition for events whose actor has `text` in the name or e-mail of today."""
    if text.strip().lower() == SYSTEM:
        return Q(actor_id=None)
    people = get_user_model().objects.filter(Q(name__icontains=text) | Q(email__icontains=text), erased_at=None)
    return Q(actor_id__in=people.values("pk"))
