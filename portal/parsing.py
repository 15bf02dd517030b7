"""JSON bodies of the API."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

MOST_LEVELS = 32  # a training card may have 6 (jobs/kit/cards.py)
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # PostgreSQL keeps no NUL, UTF-8 has no half of a surrogate pair


class ShallowJSONParser(JSONParser):
    """JSON that is not nested so deeply that what reads it later runs out of stack, and whose texts are text."""

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
        if any(NO_TEXT.search(text) for text in _texts(found)):
            raise ParseError(
                "The JSON holds a NUL (U+0000) or half of a surrogate pair, which is no text. Send it without."
            )
        return found


def _is_deeper(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner if isinstance(item, dict | list))


def _texts(value: object) -> Iterator[str]:
    """Yield every text of a document, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.items() if isinstance(value, dict) else value:
            yield from _texts([*item] if isinstance(item, tuple) else item)
