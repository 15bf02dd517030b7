"""
What allauth does to an account, put on record.

Its views write without a service of ours, so these answer its signals (see apps.py); where it asks an adapter to make
the change, adapter.py records it in the same transaction. Addresses, names of keys and secrets never enter the facts.
"""

from typing import Any

from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.db import transaction
from django.http import HttpRequest

from portal.accounts.models import User
from portal.audit import services as audit

CODES = Authenticator.Type.RECOVERY_CODES


@transaction.atomic
def record(verb: str, user: User, **facts: Any) -> None:
    """Write that somebody changed their own account."""
    audit.record(verb, user, by=user, **facts)


def on_signed_up(sender: object, *, user: User, **kwargs: object) -> None:
    record("account.signed_up", user, orcid="sociallogin" in kwargs)


def on_signed_in(sender: object, *, request: HttpRequest, user: User, **kwargs: object) -> None:
    proved = [row.get("type") or row["method"] for row in get_authentication_records(request, user)]
    record("account.signed_in", user, methods=list(dict.fromkeys(proved)))


def on_factor_added(sender: object, *, user: User, authenticator: Authenticator, **kwargs: object) -> None:
    if authenticator.type == CODES:
        record("account.codes_made", user)
    else:
        record("account.factor_added", user, type=authenticator.type)


def on_factor_removed(sender: object, *, user: User, authenticator: Authenticator, **kwargs: object) -> None:
    if authenticator.type == CODES:
        record("account.codes_removed", user)
    else:
        record("account.factor_removed", user, type=authenticator.type)


def on_address_added(sender: object, *, user: User, email_address: EmailAddress, **kwargs: object) -> None:
    record("account.address_added", user, address=email_address.pk)


def on_address_verified(sender: object, *, email_address: EmailAddress, **kwargs: object) -> None:
    record("account.address_verified", email_address.user, address=email_address.pk)


def on_address_chosen(sender: object, *, user: User, to_email_address: EmailAddress, **kwargs: object) -> None:
    record("account.address_chosen", user, address=to_email_address.pk)


def on_address_removed(sender: object, *, user: User, **kwargs: object) -> None:
    record("account.address_removed", user)
