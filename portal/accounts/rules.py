"""Who may read the audit log. Here, because the log stands below accounts and knows no roles."""

import rules

from portal.accounts import services
from portal.accounts.models import User


@rules.predicate
def is_auditor(user: User) -> bool:
    """Test if the person is an auditor, an operator or the chair."""
    return services.is_auditor(user)


@rules.predicate
def is_operator(user: User) -> bool:
    """Test if the person is an operator."""
    return services.has_role(user, "operator")


rules.add_perm("audit.view_log", is_auditor)
rules.add_perm("notifications.view_outbox", is_auditor)
rules.add_perm("notifications.change_outbox", is_operator)
