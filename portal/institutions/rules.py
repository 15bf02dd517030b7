"""Who may do what with an institution; when is in lifecycle.py."""

import rules

from portal.accounts.models import User
from portal.accounts.services import has_role
from portal.institutions import services
from portal.institutions.models import Institution


@rules.predicate
def belongs(user: User, institution: Institution) -> bool:
    """Test if the person holds any role in the institution today, or in the one that it was merged into."""
    if services.is_member(user, institution):
        return True
    return institution.merged_into is not None and services.is_member(user, institution.merged_into)


@rules.predicate
def manages(user: User, institution: Institution) -> bool:
    """Test if the person is a principal investigator or data steward of the institution today."""
    return services.manages(user, institution)


@rules.predicate
def serves_consortium(user: User) -> bool:
    """Test if the person is on the board, operates the portal or audits it."""
    return has_role(user, "board_member", "chair", "operator", "auditor")


rules.add_perm("institutions.view_file", belongs | serves_consortium)  # people, application, history
rules.add_perm("institutions.change_institution", manages)
