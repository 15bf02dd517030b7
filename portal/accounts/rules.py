"""Who may read the audit log. Here, because the log stands below accounts and knows no roles."""

import rules

from portal.accounts import services
from portal.accounts.models import User


@rules.predicate
def is_auditor(user: User) -> bool:
    """Test if the person is an auditor, an operator or the chair."""
    return services.is_auditor(user)


rules.add_perm("audit.view_log", is_auditor)
