"""People by reference: lasting texts hold `{person:17}`, pages and mails the person's name of today."""

import re
from collections.abc import Iterable

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser

REFERENCE = re.compile(r"\{person:(\d+)\}")
FORMER = "a former member"


def reference(user: AbstractBaseUser) -> str:
    """Return the text that stands for a person in lasting rows."""
    return f"{{person:{user.pk}}}"


def named(text: str) -> str:
    """Return the text with each person's name of today."""
    return named_all([text])[0]


def named_all(texts: Iterable[str]) -> list[str]:
    """Return the texts with each person's name of today, in one query; none where nobody is mentioned."""
    rows = list(texts)
    wanted = {int(number) for text in rows for number in REFERENCE.findall(text)}
    people = get_user_model().objects.in_bulk(wanted) if wanted else {}
    names = {pk: str(person) for pk, person in people.items()}
    return [REFERENCE.sub(lambda found: names.get(int(found[1]), FORMER), text) for text in rows]
