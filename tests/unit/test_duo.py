"""Terms of use by code: what fits together, what is permitted."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.agreements import duo
from portal.agreements.duo import Answer, Purpose, conflicts, permits

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
CODES = st.sets(st.sampled_from(sorted(duo.TERMS)))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (["GRU"], []),
        (["HMB", "NPOA", "NCU", "IRB", "PUB"], []),
        (["NRES", "CC"], []),
        ([], ["Choose what the data may be used for"]),
        (["IRB"], ["Choose what the data may be used for"]),
        (["GRU", "HMB"], ["Choose one of GRU"]),
        (["GRU", "XYZ"], ["XYZ is no code that we use"]),
        (["NRES", "NCU"], ["NRES and NCU cannot both be true"]),
        (["POA", "NPOA"], ["POA and NPOA cannot both be true"]),
        (["HMB", "NPUNCU", "NPU"], ["NPUNCU and NPU cannot both be true"]),
    ],
)
def test_codes_that_do_not_fit_together_are_named(codes, expected):
    found = conflicts(codes)
    assert len(found) == len(expected)
    assert all(sentence.startswith(start) for sentence, start in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("codes", "purpose", "expected", "because"),
    [
        (["GRU"], "training", "permitted", "GRU (general research use) covers training"),
        (["GRU"], "ancestry", "permitted", "GRU (general research use) covers studying the origins"),
        (["GRU", "NPOA"], "ancestry", "excluded", "NPOA .* rules out"),
        (["HMB"], "training", "permitted", "HMB"),
        (["HMB"], "ancestry", "excluded", "HMB .* does not cover"),
        (["HMB", "NMDS"], "training", "excluded", "NMDS .* rules out training"),
        (["HMB", "NMDS"], "evaluation", "permitted", "HMB"),
        (["HMB"], "commercial_use", "permitted", "HMB"),
        (["HMB", "NCU"], "commercial_use", "excluded", "NCU .* rules out commercial use"),
        (["HMB", "NPUNCU"], "noncommercial_release", "permitted", "HMB"),
        (["DS"], "evaluation", "permitted", "for the disease that the institution named"),
        (["DS"], "training", "excluded", "DS .* does not cover"),
        (["POA"], "training", "excluded", "POA .* does not cover"),
        (["NRES"], "commercial_use", "permitted", "NRES"),
        (["GRU"], "clinical_care", "excluded", "GRU .* does not cover the care"),
        (["GRU", "CC"], "clinical_care", "permitted", "covers the care"),
        (["HMB", "MOR"], "noncommercial_release", "undecided", "A person has to decide"),
        (["HMB", "GS"], "training", "undecided", "A person has to decide .* GS"),
        (["HMB", "IRB", "PUB", "COL", "RTN"], "training", "permitted", "HMB"),
        (["GRU", "HMB"], "training", "excluded", "do not fit together"),
        ([], "training", "excluded", "permit nothing"),
    ],
)
def test_purpose_is_permitted_or_refused_with_a_reason(codes, purpose, expected, because):
    answer, sentence = permits(codes, purpose)
    assert answer == expected
    assert re.search(because.replace("(", r"\(").replace(")", r"\)"), sentence)


def test_an_unknown_purpose_is_an_error():
    with pytest.raises(ValueError, match="resale"):
        permits(["GRU"], "resale")


@patient
@given(CODES, st.sampled_from(list(Purpose)), st.sampled_from(sorted(duo.TERMS)))
def test_a_further_restriction_never_permits_more(codes, purpose, more):
    if more == "CC" or duo.TERMS[more].is_permission:
        return
    strictness = list(Answer).index
    before, _ = permits(codes, purpose)
    after, _ = permits(codes | {more}, purpose)
    assert strictness(after) <= strictness(before)


@patient
@given(CODES, st.sampled_from(list(Purpose)))
def test_terms_that_conflict_permit_nothing(codes, purpose):
    assert not conflicts(codes) or permits(codes, purpose)[0] == "excluded"


def test_identifiers_are_unique_and_well_formed():
    ids = [term.id for term in duo.TERMS.values()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"DUO:\d{7}", identifier) for identifier in ids)


def test_codes_are_described_in_the_order_of_the_table():
    assert duo.described(["IRB", "HMB"]) == [
        "HMB (health or medical or biomedical research, DUO:0000006)",
        "IRB (ethics approval required, DUO:0000021)",
    ]


def test_every_modifier_has_a_meaning():
    decided = set(duo.CLOSES) | duo.NEEDS_A_PERSON | duo.MET_BY_AGREEMENT | {"CC"}
    assert decided == {short for short, term in duo.TERMS.items() if not term.is_permission}
