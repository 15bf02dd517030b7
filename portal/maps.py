"""The world map by UN M49 sub-region, drawn on the server as one inline SVG."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

BANDS = ((0, "none yet"), (1, "1 to 2"), (3, "3 to 5"), (6, "6 or more"))  # from this count on, what the key says
ANTARCTICA = "010"


@functools.cache
def geometry() -> dict[str, Any]:
    """Return {"width", "height", "source", "regions": {M49 code: {"name", "path", "x", "y"}}} of world.json."""
    return json.loads((Path(__file__).parent / "world.json").read_text(encoding="utf-8"))


def band(count: int) -> int:
    """Return the index in BANDS of a count."""
    return max(index for index, (start, _) in enumerate(BANDS) if count >= start)


def world_map(counts: Mapping[str, int], noun: str = "institutions") -> SafeString:
    """
    Draw the world with each sub-region shaded by its count, and the key.

    Args:
        counts: M49 sub-region code, three digits -> count; an absent region counts 0.
        noun: what is counted, plural, for the titles.
    The page puts a table of the same figures beside it.
    """
    world = geometry()
    regions = ((code, region) for code, region in world["regions"].items() if code != ANTARCTICA)
    paths = format_html_join(
        "",
        '<path class="band-{}" d="{}"><title>{}: {} {}</title></path>',
        ((band(n := counts.get(code, 0)), region["path"], region["name"], n, noun) for code, region in regions),
    )
    reached = sum(1 for count in counts.values() if count)
    return format_html(
        '<figure class="map"><svg viewBox="0 0 {} {}" role="img" aria-labelledby="map-title map-text">'
        '<title id="map-title">{} by United Nations sub-region</title>'
        '<desc id="map-text">{} of {} sub-regions have at least one. The table holds the same figures.</desc>'
        "{}</svg>{}</figure>",
        world["width"],
        world["height"],
        noun.capitalize(),
        reached,
        len(world["regions"]) - 1,
        paths,
        _key(noun),
    )


def _key(noun: str) -> SafeString:
    swatch = '<svg viewBox="0 0 18 14" aria-hidden="true"><rect class="band-{}" width="18" height="14" rx="2"/></svg>'
    items = ((format_html(swatch, index), words) for index, (_, words) in enumerate(BANDS))
    return format_html(
        '<ul class="map-key" aria-label="Key: {} in a sub-region">{}</ul>',
        noun,
        format_html_join("", "<li>{}{}</li>", items),
    )
