"""Check 2: a key registered for the institution signed exactly this file."""

from .. import statements
from .dossier import Dossier
from .results import CheckResult, not_measured

SIGN = "Run `consortium sign weights.safetensors` with the institution's key, and send what it writes."


def check_signature(path: str, dossier: Dossier) -> CheckResult:
    """Check 2. A key that is not registered, a changed statement and another file are told apart by their code."""
    if dossier.signature is None and not dossier.is_complete:
        sentence = "Not looked at here: no signature was given."
        return not_measured(2, "signature", sentence, code="not_given", fix=SIGN)
    if dossier.signature is None:
        return CheckResult(2, "signature", "fail", "The file is not signed.", SIGN, {"code": "not_signed"})
    try:
        if dossier.keys is None:
            found = statements.unverified(dossier.signature, statements.WEIGHTS)
        else:
            found = statements.open_statement(dossier.signature, statements.WEIGHTS, dossier.keys)
        statements.require_subject(found, dossier.sha256(path))
    except statements.StatementError as error:
        return CheckResult(2, "signature", "fail", error.sentence, error.fix, {"code": error.code})
    evidence = {"fingerprint": found.fingerprint, "sha256": found.sha256}
    if dossier.keys is None:
        sentence = f"It names this file and the key {found.fingerprint[:16]}…; the portal knows if that is yours."
        return not_measured(2, "signature", sentence, code="keys_not_known")
    sentence = f"The institution's key {found.fingerprint[:16]}… signed exactly this file."
    return CheckResult(2, "signature", "pass", sentence, evidence=evidence)
