"""
Terms of use that machines read: codes of the Data Use Ontology, and whether they permit what the programme does.

Source: GA4GH Data Use Ontology (DUO), release 2021-02-23, CC BY 4.0, http://purl.obolibrary.org/obo/duo.owl;
identifiers, short names and labels are its own, the plain words are ours. J. Lawson et al. 2021,
doi:10.1016/j.xgen.2021.100028.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Answer(StrEnum):
    """Whether terms of use permit a purpose; the strictest first."""

    NO = "excluded"
    ASK = "undecided"  # only a person can tell
    YES = "permitted"


class Purpose(StrEnum):
    """What the programme may want to do with a contribution."""

    TRAINING = "training"
    EVALUATION = "evaluation"
    METHODS = "methods"
    ANCESTRY = "ancestry"
    NONCOMMERCIAL_RELEASE = "noncommercial_release"
    COMMERCIAL_USE = "commercial_use"
    CLINICAL_CARE = "clinical_care"


WORDS = {
    Purpose.TRAINING: "training and publishing a model of many diseases",
    Purpose.EVALUATION: "measuring how well models find a disease",
    Purpose.METHODS: "developing methods and software",
    Purpose.ANCESTRY: "studying the origins or ancestry of populations",
    Purpose.NONCOMMERCIAL_RELEASE: "releasing a model for non-commercial research",
    Purpose.COMMERCIAL_USE: "commercial use",
    Purpose.CLINICAL_CARE: "the care of individual patients",
}


@dataclass(frozen=True)
class Term:
    """One code of the ontology."""

    id: str
    short: str
    label: str
    plain: str
    is_permission: bool = False  # exactly one permission is chosen; modifiers narrow it


TERMS = {
    term.short: term
    for term in (
        Term("DUO:0000004", "NRES", "no restriction", "Any use that the law allows.", True),
        Term("DUO:0000042", "GRU", "general research use", "Any research.", True),
        Term(
            "DUO:0000006", "HMB", "health or medical or biomedical research", "Research on health, not ancestry.", True
        ),
        Term("DUO:0000007", "DS", "disease specific research", "Research on the disease you name, no other.", True),
        Term("DUO:0000011", "POA", "population origins or ancestry research only", "Research on ancestry only.", True),
        Term("DUO:0000044", "NPOA", "population origins or ancestry research prohibited", "No research on ancestry."),
        Term("DUO:0000015", "NMDS", "no general methods research", "Not to develop methods, software or algorithms."),
        Term("DUO:0000046", "NCU", "non-commercial use only", "Nobody may make money with it."),
        Term(
            "DUO:0000045", "NPU", "not for profit organisation use only", "Only organisations that are not for profit."
        ),
        Term("DUO:0000018", "NPUNCU", "not for profit, non commercial use only", "The two before, together."),
        Term("DUO:0000021", "IRB", "ethics approval required", "Each user shows an ethics approval."),
        Term("DUO:0000019", "PUB", "publication required", "Results are made public."),
        Term("DUO:0000020", "COL", "collaboration required", "Only together with your investigators."),
        Term("DUO:0000029", "RTN", "return to database or resource", "What is derived comes back to you."),
        Term("DUO:0000024", "MOR", "publication moratorium", "Nothing is published before a date you give."),
        Term("DUO:0000025", "TS", "time limit on use", "Only for the months you give."),
        Term("DUO:0000022", "GS", "geographical restriction", "Only within the region you name."),
        Term("DUO:0000027", "PS", "project specific restriction", "Only for the project you name."),
        Term("DUO:0000028", "IS", "institution specific restriction", "Only within the institutions you name."),
        Term("DUO:0000026", "US", "user specific restriction", "Only by the people you approve."),
        Term("DUO:0000043", "CC", "clinical care use", "Also for the care of patients."),
    )
}

_RESEARCH = frozenset({Purpose.EVALUATION, Purpose.TRAINING, Purpose.METHODS, Purpose.NONCOMMERCIAL_RELEASE})
# What each permission opens; a modifier below then takes away. No research permission opens clinical care.
OPENS = {
    "NRES": frozenset(Purpose),
    "GRU": _RESEARCH | {Purpose.ANCESTRY, Purpose.COMMERCIAL_USE},
    "HMB": _RESEARCH | {Purpose.COMMERCIAL_USE},
    "DS": frozenset({Purpose.EVALUATION}),
    "POA": frozenset({Purpose.ANCESTRY}),
}
CLOSES = {
    "NPOA": {Purpose.ANCESTRY},
    "NMDS": {Purpose.TRAINING, Purpose.METHODS},
    "NCU": {Purpose.COMMERCIAL_USE},
    "NPU": {Purpose.COMMERCIAL_USE},
    "NPUNCU": {Purpose.COMMERCIAL_USE},
}
# What only a person can judge, because it depends on a date, a place or a name that the code does not carry.
NEEDS_A_PERSON = frozenset({"MOR", "TS", "GS", "PS", "IS", "US"})
# Conditions that the agreement itself meets: ethics reference (4), publication and credit (9), releases to all (11).
MET_BY_AGREEMENT = frozenset({"IRB", "PUB", "COL", "RTN"})
EXCLUDE_EACH_OTHER = (
    *(("NRES", short) for short, term in TERMS.items() if not term.is_permission and short != "CC"),
    ("POA", "NPOA"),
    ("NPUNCU", "NCU"),
    ("NPUNCU", "NPU"),
)


def conflicts(codes: Collection[str]) -> list[str]:
    """Return a sentence for each thing that keeps the codes from being terms of use; an empty list: they are."""
    unknown = sorted(set(codes) - set(TERMS))
    permissions = [short for short in TERMS if short in codes and TERMS[short].is_permission]
    found = [f"{short} is no code that we use. Choose from the list." for short in unknown]
    if not permissions:
        found.append(f"Choose what the data may be used for: {_listed(OPENS)}.")
    if len(permissions) > 1:
        found.append(f"Choose one of {_listed(permissions)}: each says on its own what the data may be used for.")
    pairs = [(one, other) for one, other in EXCLUDE_EACH_OTHER if one in codes and other in codes]
    return found + [f"{one} and {other} cannot both be true. Leave one out." for one, other in pairs]


def permits(codes: Collection[str], purpose: str) -> tuple[Answer, str]:
    """Answer whether terms of use permit a purpose, and say why in a sentence."""
    wanted = Purpose(purpose)
    words = WORDS[wanted]
    if problems := conflicts(codes):
        return Answer.NO, f"These terms of use do not fit together, so they permit nothing. {problems[0]}"
    permission = next(short for short in codes if TERMS[short].is_permission)
    opened = OPENS[permission] | ({Purpose.CLINICAL_CARE} if "CC" in codes else frozenset())
    if wanted not in opened:
        return Answer.NO, f"{_named(permission)} does not cover {words}."
    if closing := [short for short in TERMS if short in codes and wanted in CLOSES.get(short, ())]:
        return Answer.NO, f"{_named(closing[0])} rules out {words}."
    if open_questions := [short for short in TERMS if short in codes and short in NEEDS_A_PERSON]:
        return (
            Answer.ASK,
            f"A person has to decide on {words}: {_named(open_questions[0])} is more than a machine can check.",
        )
    if permission == "DS":
        return Answer.YES, f"{_named(permission)} covers {words}, for the disease that the institution named."
    return Answer.YES, f"{_named(permission)} covers {words}."


def described(codes: Collection[str]) -> list[str]:
    """Return each code as it is written into an agreement: short name, label, identifier."""
    return [f"{term.short} ({term.label}, {term.id})" for short, term in TERMS.items() if short in codes]


def _named(short: str) -> str:
    return f"{short} ({TERMS[short].label})"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(_named(name) for name in names)
