"""Filters of the institutions' pages."""

from collections.abc import Mapping
from typing import Any

from django import template

register = template.Library()


@register.filter
def at(mapping: Mapping[str, Any], key: str) -> Any:
    """Return what a mapping holds at a key, or an empty list."""
    return mapping.get(key, [])
