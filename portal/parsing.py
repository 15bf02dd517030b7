"""JSON bodies of the API."""

from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

MOST_LEVELS = 32  # a training card may have 6 (jobs/kit/cards.py)


class ShallowJSONParser(JSONParser):
    """JSON that is not nested so deeply that what reads it later runs out of stack."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        try:
            found = super().parse(stream, media_type, parser_context)
            is_deep = _is_deeper(found, MOST_LEVELS)
        except RecursionError:
            is_deep = True
        if is_deep:
            raise ParseError(
                f"The JSON is nested more than {MOST_LEVELS} levels deep. Send what the reference asks for."
            )
        return found


def _is_deeper(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner if isinstance(item, dict | list))
