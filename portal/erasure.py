"""
Erasing an account: what names the person goes, what others rely on stays under a number.

What belongs to a person by CASCADE goes; what is evidence is PROTECTed, so it stays and keeps the row of the person.
It stands above everything that holds something of people, so it calls each part by name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db import models, transaction
from django.urls import reverse

from portal.accounts import services
from portal.accounts.models import ERASED_DOMAIN, ConsortiumRole, User
from portal.audit import services as audit
from portal.errors import DomainError
from portal.institutions import memberships
from portal.institutions.models import Institution
from portal.notifications import services as notifications

ERASED_NAME = "Former member"
LAST_OF = {
    "chair": "You are the chair of the board. Somebody else must take the chair first: ask an operator.",
    "operator": "You are the only operator. Appoint another one first: else nobody could appoint anybody.",
}


@dataclass(frozen=True)
class Hold:
    """Why an account cannot be erased yet, and where the person can change that (empty: somebody else must)."""

    reason: str
    url: str
    link: str


class CannotErase(DomainError):
    """Something needs the person first."""

    code = "account_needed"


def holds(user: User) -> list[Hold]:
    """Return every reason why the account cannot be erased yet."""
    return [*_roles_that_need_somebody(user), *_institutions_that_need_somebody(user)]


def _roles_that_need_somebody(user: User) -> Iterator[Hold]:
    for role, reason in LAST_OF.items():
        holders = ConsortiumRole.objects.current().filter(role=role)
        left = holders.everywhere().exclude(user=user)  # who chairs the board of one programme alone is no chair of all
        if holders.filter(user=user).exists() and not left.exists():
            yield Hold(reason, reverse("people") if role == "operator" else "", "People and roles")


def _institutions_that_need_somebody(user: User) -> Iterator[Hold]:
    for institution in memberships.only_managed_by(user):
        reason = (
            f"You are the only one who manages {institution}. Give somebody else the role of principal investigator "
            "or data steward first."
        )
        yield Hold(reason, reverse("institutions:people", args=[institution.slug]), "People of the institution")


def _relations(on_delete: object) -> Iterator[tuple[type[models.Model], str]]:
    """Return the models and fields that refer to a person in this way, hidden ones too."""
    for field in User._meta.get_fields(include_hidden=True):
        if isinstance(field, models.ManyToOneRel) and field.on_delete is on_delete:
            yield field.related_model, field.field.name


def stays(user: User) -> list[tuple[str, int]]:
    """Return what stays, as (what it is, how many): everything that is evidence or that others rely on."""
    counts: dict[str, int] = {}
    for model, field in _relations(models.PROTECT):
        if number := model._base_manager.filter(**{field: user}).count():
            name = str(model._meta.verbose_name if number == 1 else model._meta.verbose_name_plural)
            counts[name] = max(counts.get(name, 0), number)  # one row may refer twice
    return sorted(counts.items())


@transaction.atomic
def erase(user: User, *, by: User, now: datetime) -> User:
    """
    Take what names a person out of the portal, for good.

    Raises:
        CannotErase: something needs the person first; the message is the first reason.
    """
    _lock_what_needs_somebody(user)  # before the person: a merger holds an institution and asks for its people
    user = User.objects.select_for_update().get(pk=user.pk)
    if user.erased_at is not None:
        return user
    for hold in holds(user):
        raise CannotErase(hold.reason, next_url=hold.url)
    addresses = {user.email, *EmailAddress.objects.filter(user=user).values_list("email", flat=True)}
    audit.record("account.erased", user, by=by)
    for role in user.consortium_roles.current():
        services.end_role(role, by=by, now=now)
    memberships.erase_person(user, addresses, now=now)
    notifications.erase(user, addresses)
    _delete_what_is_only_theirs(user, now=now)
    return _pseudonymise(user, now=now)


def _lock_what_needs_somebody(user: User) -> None:
    """Of two who rely on each other and leave at once, the second waits here, and is the only one then."""
    own = user.memberships.current().values("institution")
    list(Institution.objects.select_for_update().filter(pk__in=own).order_by("pk"))
    list(ConsortiumRole.objects.current().select_for_update().filter(role__in=LAST_OF).order_by("pk"))


def _delete_what_is_only_theirs(user: User, *, now: datetime) -> None:
    keys = list(UserSession.objects.filter(user=user).values_list("session_key", flat=True))
    services.end_access(user, now=now)
    Session.objects.filter(session_key__in=keys).delete()  # what a session remembers names the address
    for model, field in _relations(models.CASCADE):
        model._base_manager.filter(**{field: user}).delete()


def _pseudonymise(user: User, *, now: datetime) -> User:
    user.refresh_from_db()
    user.name, user.email = ERASED_NAME, f"erased-{user.pk}@{ERASED_DOMAIN}"
    user.is_active = user.is_staff = user.is_superuser = False
    user.last_login, user.erased_at = None, now
    user.set_unusable_password()
    user.save()
    return user
