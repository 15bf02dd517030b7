"""The particulars of a signed case, read back by machine: the kinds of contribution and the terms of use."""

from collections import defaultdict
from collections.abc import Collection

from django.utils.translation import gettext_noop as _

from portal.agreements import duo
from portal.agreements.models import CoveredInstitution, SigningRequest

# As they are written into the text. Signed cases hold these words and are read by them: none of them ever changes.
KINDS = {
    "weights": _("generator weights"),
    "synthetic": _("synthetic images made by the institution"),
    "images": _("de-identified photographs"),
}


def kinds_of(case: SigningRequest) -> frozenset[str] | None:
    """
    Return the kinds that a case names, whether by name or by slug.

    None limits nothing: its text names none, or in words of its own, which people read and machines do not.
    """
    given = set(_values(case, "kinds"))
    return frozenset(kind for kind, words in KINDS.items() if {kind, words} & given) or None


def codes_of(case: SigningRequest) -> list[str]:
    """Return the short names of the codes of use that a case holds; an empty list: its text asks for none."""
    return [value.split(" ")[0] for value in _values(case, "use_codes")]


def permits(cases: Collection[SigningRequest], purpose: str) -> tuple[duo.Answer, str]:
    """Return what the strictest of the cases answers; cases without codes exclude nothing."""
    found = [_permits(case, codes, purpose) for case in cases if (codes := codes_of(case))]
    return min(found, key=lambda row: list(duo.Answer).index(row[0]), default=(duo.Answer.YES, ""))


def _permits(case: SigningRequest, codes: list[str], purpose: str) -> tuple[duo.Answer, str]:
    if set(codes) <= set(duo.TERMS):
        return duo.permits(codes, purpose)
    words = written(case, "use_codes")
    return duo.Answer.ASK, f"A person has to decide: what was signed says it in words of its own, “{words}”."


def signed_cases(parties: Collection[int]) -> dict[int, list[SigningRequest]]:
    """Return by institution every case that ever was in force for it, its own and those that cover it, oldest first."""
    rows = SigningRequest.objects.filter(activated_at__isnull=False).select_related("agreement_version__agreement")
    rows = rows.defer("text", "agreement_version__text", "agreement_version__side_notes")
    pairs = [(case.institution_id, case) for case in rows.filter(institution__in=parties)]
    covers = CoveredInstitution.objects.filter(institution__in=parties, confirmed_at__isnull=False)
    by_key = {case.pk: case for case in rows.filter(covered__in=covers)}
    for request_id, institution_id in covers.values_list("request", "institution"):
        if request_id in by_key:
            pairs.append((institution_id, by_key[request_id]))
    found: dict[int, list[SigningRequest]] = defaultdict(list)
    for institution_id, case in sorted(pairs, key=lambda pair: pair[1].pk):
        found[institution_id].append(case)
    return found


def written(case: SigningRequest, name: str) -> str:
    """Return one particular as it stands in the text, several values parted by semicolons; empty: it holds none."""
    given = case.variables.get(name, "")
    return given if isinstance(given, str) else "; ".join(given)


def _values(case: SigningRequest, name: str) -> list[str]:
    return [value.strip() for value in written(case, name).split(";") if value.strip()]
