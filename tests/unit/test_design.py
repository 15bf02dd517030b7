"""The design holds its promises: contrast in both themes, nothing of anybody else's."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSS = (ROOT / "portal/static/portal/site.css").read_text() + (ROOT / "portal/static/portal/parts.css").read_text()
TEXT = ["ink", "ink-2", "ink-3", "accent", "accent-strong", "good", "warn", "bad"]


def _tokens(dark: bool) -> dict[str, str]:
    blocks = re.findall(r":root \{([^}]*--paper:[^}]*)\}", CSS)
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", blocks[1 if dark else 0]))


def _luminance(colour: str) -> float:
    """WCAG 2.2, definition of relative luminance."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    bright, dim = sorted([_luminance(one), _luminance(other)], reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(dark: bool) -> None:
    token = _tokens(dark)
    pairs = [(text, paper) for text in TEXT for paper in ("paper", "paper-2")]
    pairs += [("on-accent", "accent"), ("ink", "accent-soft"), ("accent", "accent-soft")]
    pairs += [(tone, f"{tone}-soft") for tone in ("good", "warn", "bad")]
    assert [(a, b) for a, b in pairs if _contrast(token[a], token[b]) < 4.5] == []  # WCAG 2.2, 1.4.3


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_borders_of_controls_have_the_contrast_of_wcag_aa(dark: bool) -> None:
    token = _tokens(dark)
    assert _contrast(token["line-2"], token["paper"]) >= 3  # WCAG 2.2, 1.4.11


def test_styles_load_nothing() -> None:
    assert re.findall(r"url\(|@import", CSS) == []
