"""Reading TOML strictly: every wrong or unknown key becomes a sentence that names file and key."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from portal.errors import DomainError


class BlueprintInvalid(DomainError):
    """A programme's folder cannot be applied; `problems` has one sentence for each thing to mend."""

    code = "blueprint_invalid"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass
class Table:
    """One table of a TOML file. What is wrong is added to `problems`, and reading goes on with an empty value."""

    values: dict[str, Any]
    where: str  # "programme.toml: agreements[2]."
    problems: list[str]
    seen: set[str] = field(default_factory=set)

    def complain(self, key: str, sentence: str) -> None:
        self.problems.append(f"{self.where}{key}: {sentence}")

    def _get(self, key: str, kind: type, what: str, default: Any) -> Any:
        self.seen.add(key)
        value = self.values.get(key)
        if value is None:
            if default is None:
                self.complain(key, f"is missing. Give {what}.")
            return kind() if default is None else default
        if not isinstance(value, kind) or kind is int and isinstance(value, bool):
            self.complain(key, f"is not {what}.")
            return kind()
        return value

    def text(self, key: str, default: str | None = None, *, max_length: int = 2000) -> str:
        """Return a text; without a default it must be there and say something."""
        value = str(self._get(key, str, "a text", default)).strip()
        if default is None and key in self.values and not value:
            self.complain(key, "is empty.")
        if len(value) > max_length:
            self.complain(key, f"has {len(value)} characters; at most {max_length} fit.")
        return value

    def choice(self, key: str, choices: Collection[str], default: str | None = None) -> str:
        value = self.text(key, default)
        if value and value not in choices:
            self.complain(key, f"“{value}” is not one of {_listed(choices)}.")
        return value

    def flag(self, key: str, default: bool) -> bool:
        return bool(self._get(key, bool, "true or false", default))

    def number(self, key: str, default: int, *, low: int, high: int) -> int:
        value = int(self._get(key, int, "a whole number", default))
        if key in self.values and not low <= value <= high:
            self.complain(key, f"is {value}, which is not between {low} and {high}.")
        return value

    def several(self, key: str, kind: type, choices: Collection[Any] = (), default: list[Any] | None = None) -> list:
        """Return a list of texts or numbers, each once; with `choices`, only of those."""
        values = self._get(key, list, "a list", default)
        wrong = [value for value in values if not isinstance(value, kind) or isinstance(value, bool)]
        wrong += [value for value in values if choices and value not in choices and value not in wrong]
        for value in wrong:
            self.complain(
                key, f"“{value}” is not one of {_listed(choices)}." if choices else f"“{value}” does not fit."
            )
        if len({str(value) for value in values}) != len(values):
            self.complain(key, "names something twice.")
        return [value for value in values if value not in wrong]

    def inner(self, key: str) -> "Table":
        """Return the table [key]; an empty one where there is none."""
        return Table(self._get(key, dict, "a table", {}), f"{self.where}{key}.", self.problems)

    def tables(self, key: str) -> Iterator["Table"]:
        """Yield the tables [[key]], counted from 1 as a person counts."""
        for number, values in enumerate(self._get(key, list, "a list of tables", []), start=1):
            if isinstance(values, dict):
                yield Table(values, f"{self.where}{key}[{number}].", self.problems)
            else:
                self.complain(f"{key}[{number}]", "is not a table.")

    def end(self) -> None:
        """Complain about every key that nobody asked for: a misspelt one must not be passed over."""
        for key in sorted(set(self.values) - self.seen):
            self.complain(key, f"is not a key of this table. It has: {_listed(self.seen)}.")


def _listed(choices: Collection[Any]) -> str:
    return ", ".join(map(str, sorted(choices) if isinstance(choices, set) else choices))
