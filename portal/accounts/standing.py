"""What a person has to do before anything else: set up a second factor, accept new terms. One query for a page."""

import functools
from dataclasses import dataclass
from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Exists, OuterRef, QuerySet, Subquery

from portal.accounts.models import ConsortiumRole, SiteTerms, TermsAcceptance, User

FACTORS = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]  # recovery codes stand in for one and are none

# Roles whose holder binds an institution or the consortium (F004). Those of institutions are its memberships' roles.
BINDING_ROLES = ["board_member", "chair", "operator", "signatory"]
SEATS = {"board_member", "chair"}
BINDING_MEMBERSHIPS = ["signing_official", "principal_investigator"]


@dataclass(frozen=True)
class Standing:
    """
    What a page knows of its person.

    consortium_roles: held today in every programme. has_seat: on the board of at least one programme.
    owes_terms: the terms in force were published and are not accepted.
    """

    consortium_roles: frozenset[str] = frozenset()
    has_seat: bool = False
    needs_second_factor: bool = False
    has_second_factor: bool = False
    owes_terms: bool = False

    @property
    def owes_second_factor(self) -> bool:
        return self.needs_second_factor and not self.has_second_factor


def standing_of(user: User) -> Standing:
    """Return how a person stands now, in one query."""
    row = _question().filter(pk=user.pk).first()
    if row is None:
        return Standing()
    return Standing(
        consortium_roles=frozenset(row["everywhere"]),
        has_seat=not SEATS.isdisjoint(row["roles"]),
        needs_second_factor=row["is_staff"] or row["binds"] or not set(BINDING_ROLES).isdisjoint(row["roles"]),
        has_second_factor=row["enrolled"],
        owes_terms=row["published"] and not row["accepted"],
    )


@functools.cache  # every request asks, and to put it together takes longer than to answer it
def _question() -> "QuerySet[User, Any]":
    newest = SiteTerms.objects.order_by("-version")
    held = ConsortiumRole.objects.current().filter(user=OuterRef("pk"))
    return User.objects.order_by("pk").values(
        "is_staff",
        roles=ArraySubquery(held.values("role")),
        everywhere=ArraySubquery(held.everywhere().values("role")),
        binds=Exists(
            User.objects.filter(
                pk=OuterRef("pk"), memberships__ended_at=None, memberships__role__in=BINDING_MEMBERSHIPS
            )
        ),
        enrolled=Exists(Authenticator.objects.filter(user=OuterRef("pk"), type__in=FACTORS)),
        published=Exists(newest),
        accepted=Exists(TermsAcceptance.objects.filter(user=OuterRef("pk"), terms=Subquery(newest.values("pk")[:1]))),
    )
