"""What an offline verifier found: each thing it looked at, whether it holds, in a sentence."""

from dataclasses import asdict, dataclass

HOLDS, FAILS, UNKNOWN, NOTE = "pass", "fail", "unknown", "note"  # a note changes nothing
EXIT_CODES = {HOLDS: 0, FAILS: 2, UNKNOWN: 3}
CANNOT_TELL = EXIT_CODES[UNKNOWN]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: whether it holds, in a sentence."""

    name: str
    verdict: str
    sentence: str

    def facts(self) -> dict[str, str]:
        return asdict(self)


def verdict(findings: list[Finding]) -> str:
    """Return fail if anything does not hold, else unknown if anything cannot be told, else pass."""
    verdicts = {finding.verdict for finding in findings}
    return FAILS if FAILS in verdicts else UNKNOWN if UNKNOWN in verdicts else HOLDS
