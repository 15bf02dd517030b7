"""From a template and the particulars of one institution to the exact text that is signed."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from portal.errors import DomainError

VARIABLE = re.compile(r"\{\{ ([a-z][a-z0-9_]*) \}\}")
JOINERS = "\u200c\u200d"  # the two invisible characters that change how a name is written (Persian, Indic scripts)
# CommonMark 0.31, section 2.4: a backslash before ASCII punctuation makes it plain text.
# These mean something anywhere in a line,
INLINE = re.compile(r"([\\`*_\[\]<>&#|!~{}])")
# these only at its beginning: list, heading, rule, quotation (sections 4.1, 4.3, 5.2).
LEADING = re.compile(r"^(\d{1,9}(?=[.)])|(?=[-+=:]))")

Value = str | Sequence[str]


class TemplateBroken(DomainError):
    """The template is not made of text and `{{ name }}` only."""

    code = "template_broken"


class VariablesWrong(DomainError):
    """A variable is missing, unknown, or its value cannot be written."""

    code = "variables_wrong"
    status = HTTPStatus.UNPROCESSABLE_ENTITY


def text_sha256(text: str) -> str:
    """Return the SHA-256 (hex) of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def normalised(text: str) -> str:
    """Return a text as it is stored: NFC, lines ended by LF, one LF at the end."""
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    return lines.strip("\n") + "\n"


def variables_of(text: str) -> list[str]:
    """
    Return the names of a template's variables in the order in which they first appear.

    Raises:
        TemplateBroken: there are braces that are no variable; a slip of the pen must not be signed as text.
    """
    rest = VARIABLE.sub("", text)
    if "{{" in rest or "}}" in rest:
        around = rest[max(rest.find("{{"), rest.find("}}"), 0) :][:40].splitlines()[0]
        raise TemplateBroken(f"The template has braces that are no variable, near “{around}”. Write {{{{ name }}}}.")
    return list(dict.fromkeys(VARIABLE.findall(text)))


def render(text: str, variables: Mapping[str, Value]) -> str:
    """
    Put the particulars into the template. The same input gives the same bytes.

    A value is one line of plain text, or several, which are joined by semicolons. Whatever it holds, it stays words:
    it can make no heading, list, link, emphasis, table cell or HTML, and it is not searched for variables again.

    Raises:
        TemplateBroken: see variables_of.
        VariablesWrong: a variable has no value, or a value has no variable; the sentence names it.
    """
    _require_same_names(variables_of(text), variables)
    values = {name: _line(name, value) for name, value in variables.items()}
    return normalised(VARIABLE.sub(lambda found: values[found[1]], text))


def _require_same_names(wanted: Sequence[str], given: Mapping[str, Value]) -> None:
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    if missing:
        raise VariablesWrong(f"The text needs a value for {_listed(missing)}. Fill it in and prepare the text again.")
    if unknown:
        raise VariablesWrong(f"The text has no place for {_listed(unknown)}. Leave it out and prepare the text again.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)


def _line(name: str, value: Value) -> str:
    """Return a value as one line of Markdown that means only its words."""
    parts = [value] if isinstance(value, str) else value
    line = "; ".join(filter(None, map(_plain, parts)))
    if not line:
        raise VariablesWrong(f"The text needs a value for {_listed([name])}. Fill it in and prepare the text again.")
    if unicodedata.category(line[0])[0] == "M":
        raise VariablesWrong(
            f"The value for {_listed([name])} begins with an accent that has no letter. Type it again."
        )
    return escaped(line)


def _plain(value: str) -> str:
    """Return the characters of a value that can be seen, on one line, in NFC."""
    seen = "".join(letter for letter in value if letter.isspace() or letter in JOINERS or _is_visible(letter))
    return " ".join(unicodedata.normalize("NFC", seen).split())


def _is_visible(letter: str) -> bool:
    """Test if a character can be seen: no control (it could hide or turn round words), surrogate or unassigned one."""
    return unicodedata.category(letter)[0] != "C"


def escaped(line: str) -> str:
    """Return one line of plain text as Markdown that renders to exactly it."""
    return LEADING.sub(r"\1\\", INLINE.sub(r"\\\1", line))
