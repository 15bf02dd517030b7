"""Which form an answer of the API has."""

from collections.abc import Sequence
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class AlwaysJson(DefaultContentNegotiation):
    """Answers JSON whatever is accepted (RFC 9110, section 12.4.1): a browser that looks gets the answer, not 406."""

    def select_renderer(
        self, request: Request, renderers: Sequence[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[Any, str]:
        return renderers[0], str(renderers[0].media_type)
