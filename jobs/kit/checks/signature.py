"""Check 2: a key registered for the institution signed exactly this."""

from .. import statements
from .dossier import Dossier
from .results import CheckResult, not_measured

SIGN = "Run `consortium sign` on exactly what you send, with the institution's key, and add what it writes."


def check_signature(path: str, dossier: Dossier, *, kind: str = statements.WEIGHTS) -> CheckResult:
    """Check 2 of a statement of `kind`. Unknown key, changed statement, other file: each has its code."""
    if dossier.signature is None and not dossier.is_complete:
        sentence = "Not looked at here: no signature was given."
        return not_measured(2, "signature", sentence, code="not_given", fix=SIGN)
    if dossier.signature is None:
        return CheckResult(2, "signature", "fail", "It is not signed.", SIGN, {"code": "not_signed"})
    try:
        if dossier.keys is None:
            found = statements.unverified(dossier.signature, kind)
        else:
            found = statements.open_statement(dossier.signature, kind, dossier.keys)
        statements.require_subject(found, dossier.sha256(path))
    except statements.StatementError as error:
        return CheckResult(2, "signature", "fail", error.sentence, error.fix, {"code": error.code})
    evidence = {"fingerprint": found.fingerprint, "sha256": found.sha256}
    if dossier.keys is None:
        sentence = f"It names exactly this and the key {found.fingerprint[:16]}…; the portal knows if that is yours."
        return not_measured(2, "signature", sentence, code="keys_not_known")
    sentence = f"The institution's key {found.fingerprint[:16]}… signed exactly this."
    return CheckResult(2, "signature", "pass", sentence, evidence=evidence)
