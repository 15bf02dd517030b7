"""Who left a moment ago takes no role, and nobody takes one in an institution that became part of another."""

from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.errors import DomainError
from portal.institutions.models import Institution


class MergedMeanwhile(DomainError):
    """The institution is part of another one, where its people go on."""

    code = "institution_merged"


def require_there(institution: Institution, user: User) -> None:
    """
    Raise MergedMeanwhile or AccountErased; else neither happens until the end of the transaction.

    It locks in the order of a merger and of an erasure: the institution, the person, and then what is asked or offered.
    """
    row = Institution.objects.select_for_update(no_key=True).get(pk=institution.pk)
    if row.merged_into is not None:
        raise MergedMeanwhile(
            f"{row} is now part of {row.merged_into}: its people hold their roles there.",
            next_url=row.merged_into.get_absolute_url(),
        )
    accounts.require_not_erased(user)
