"""From template and particulars to the text that is signed: strict, deterministic, and words stay words."""

import hashlib
import html
import re
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.agreements import rendering
from portal.agreements.rendering import TemplateBroken, VariablesWrong, render, variables_of
from portal.markdown import to_html

TEMPLATE = """# Agreement of {{ institution }}

## 1. Parties

{{ institution }} agrees, **acting** through {{ person }}, to this.
{{ institution }}

| particular | value |
| --- | --- |
| Institution | {{ institution }} |
| Person | {{ person }} |

- {{ person }}
1. {{ institution }}

> {{ person }}

### {{ person }}

Signed ({{ institution }}).
"""
ATTACKS = [
    "# Heading",
    "a\n\n# Heading\n\n- b",
    "===",
    "---",
    "- item",
    "+ item",
    "1. item",
    "12) item",
    "2026. year",
    "> quote",
    "a | b | c",
    "\\| a \\\\| b",
    "[x](https://evil.example)",
    "<https://evil.example>",
    "![x](https://evil.example/p.png)",
    "<script>alert(1)</script>",
    "<b>bold</b> & &lt;i&gt; &#60;",
    "**bold** __bold__ *em* _em_ ~~out~~",
    "`code` ```code```",
    "{{ person }}",
    "trailing \\",
    "x  \\\n===",
    "[ref]: https://evil.example",
    ": term",
    "\u2028# Heading",
    "\r## Heading",
    "\x85- item",
    "    code",
    "\tcode",
    "a #",
    "<\u0338 =\u0338 >\u0338",
]

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
lines = st.text(min_size=1).filter(lambda text: rendering._plain(text) and not _starts_with_a_mark(text))


def _starts_with_a_mark(text: str) -> bool:
    return unicodedata.category(rendering._plain(text)[0])[0] == "M"


class _Outline(HTMLParser):
    """The tags of a page in order, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[object] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def outline(value: str) -> _Outline:
    return _Outline(to_html(render(TEMPLATE, {"institution": value, "person": value})))


PLAIN = outline("Moi Eye Clinic")


def test_variables_are_listed_once_in_their_order():
    assert variables_of("{{ b }} {{ a }} {{ b }} { c } $d %e") == ["b", "a"]
    assert variables_of("No variables.\n") == []


@pytest.mark.parametrize(
    "text", ["{{name}}", "{{ Name }}", "{{ a b }}", "{{ a|upper }}", "{{ a.b }}", "{{ a", "a }}", "{{ }}"]
)
def test_braces_that_are_no_variable_are_refused(text):
    with pytest.raises(TemplateBroken, match="braces that are no variable"):
        variables_of(text)


def test_text_is_rendered_to_the_letter():
    assert render("# {{ a }}\r\n\r\nOf {{ b }}.", {"a": "St. Anne’s (2024/17)", "b": ["x", "", "y z"]}) == (
        "# St. Anne’s (2024/17)\n\nOf x; y z.\n"
    )


def test_a_missing_variable_is_named():
    with pytest.raises(VariablesWrong, match="needs a value for ethics reference"):
        render("{{ ethics_reference }}", {})


def test_an_unknown_variable_is_named():
    with pytest.raises(VariablesWrong, match="no place for shoe size"):
        render("{{ a }}", {"a": "x", "shoe_size": "44"})


@pytest.mark.parametrize("value", ["", "  \n", "\u202e", "\x00", [], ["", " "]])
def test_an_empty_value_is_named(value):
    with pytest.raises(VariablesWrong, match="needs a value for principal investigator"):
        render("{{ principal_investigator }}", {"principal_investigator": value})


def test_an_accent_without_a_letter_is_refused():
    with pytest.raises(VariablesWrong, match="begins with an accent"):
        render("e{{ a }}", {"a": "\u0301x"})


def test_what_cannot_be_seen_is_left_out_and_joiners_stay():
    assert render("{{ a }}", {"a": "\u202eab\u200bc\ud800 d\u0007 \u0645\u06cc\u200c\u062e\u0648"}) == (
        "abc d \u0645\u06cc\u200c\u062e\u0648\n"
    )


def test_the_same_name_from_two_keyboards_gives_the_same_bytes():
    composed, decomposed = "José Núñez", unicodedata.normalize("NFD", "José Núñez")
    assert composed != decomposed
    assert render("{{ a }}", {"a": composed}) == render("{{ a }}", {"a": decomposed}) == f"{composed}\n"


@pytest.mark.parametrize("value", ATTACKS)
def test_an_attack_stays_words(value):
    found = outline(value)
    assert found.tags == PLAIN.tags
    assert found.words == PLAIN.words.replace("Moi Eye Clinic", rendering._plain(value))


@patient
@given(lines)
def test_no_value_changes_the_structure_of_the_document(value):
    found = outline(value)
    assert found.tags == PLAIN.tags


@patient
@given(
    st.text(alphabet="#>-+*_=`~|[](){}<>!&\\:;.)12 \t\nax\u0301", min_size=1).filter(
        lambda text: rendering._plain(text) and not _starts_with_a_mark(text)
    )
)
def test_no_value_made_of_marks_changes_structure_or_words(value):
    found = outline(value)
    assert found.tags == PLAIN.tags
    assert found.words == PLAIN.words.replace("Moi Eye Clinic", rendering._plain(value))


@patient
@given(lines, lines)
def test_the_same_input_gives_the_same_bytes_in_nfc_with_lf(one, other):
    given_ = {"institution": one, "person": other}
    text = render(TEMPLATE, given_)
    assert text == render(TEMPLATE.replace("\n", "\r\n"), dict(reversed(given_.items())))
    assert text == unicodedata.normalize("NFC", text)
    assert "\r" not in text
    assert text.endswith(").\n")
    assert rendering.text_sha256(text) == hashlib.sha256(text.encode()).hexdigest()


@patient
@given(lines)
def test_a_value_reads_as_it_was_given(value):
    page = to_html(render("Of {{ a }}.", {"a": value}))
    assert html.unescape(re.sub(r"</?p>|\n", "", page)) == f"Of {rendering._plain(value)}."
