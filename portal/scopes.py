"""The scopes of a token, narrowest first, and which one a request needs: the gate and the API document read it here."""

import re

from rest_framework.permissions import SAFE_METHODS

WIDTH = ["read", "contribute", "manage"]  # each may what those before it may
# What the kit does.
CONTRIBUTING = re.compile(r"/api/v1/(contributions(?!/\d+/(holds|isolations))|device|models/[^/]+/accept)(/|$)")


def scope_of(path: str, method: str) -> str:
    """Return the narrowest scope (read, contribute, manage) with which a token may use the method on the address."""
    if method in SAFE_METHODS:
        return "read"
    return "contribute" if CONTRIBUTING.match(path) else "manage"
