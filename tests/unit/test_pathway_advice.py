"""The advice, over every answer that an institution can give."""

import itertools

import pytest

from portal.institutions import advice
from portal.institutions.models import Institution
from portal.institutions.vocabulary import Pathway

Answer, Gpu, Expertise = Institution.Answer, Institution.Gpu, Institution.Expertise
EVERY = list(itertools.product(Gpu, Expertise, Answer, Answer, Answer))


def institution(gpu: str, expertise: str, weights: str, synthetic: str, images: str) -> Institution:
    return Institution(
        gpu=gpu,
        expertise=expertise,
        weights_may_leave=weights,
        synthetic_may_leave=synthetic,
        images_may_leave=images,
    )


def test_the_advice_never_recommends_what_the_law_forbids_or_nobody_can_run() -> None:
    for answers in EVERY:
        row = institution(*answers)
        kind = advice.recommend(row).kind
        if not kind:
            continue
        assert row.may_leave(kind) != Answer.NO, answers
        assert kind == Pathway.IMAGES or advice.can_train(row), answers
        assert kind != Pathway.IMAGES or row.images_may_leave == Answer.YES, answers


def test_every_kind_is_ranked_once_with_two_sentences() -> None:
    for answers in EVERY:
        rows = advice.ranked(institution(*answers))
        assert sorted(row.kind for row in rows) == sorted(Pathway)
        assert all(row.why.count(". ") == 1 and row.why.endswith(".") for row in rows)
        assert [row.fit for row in rows].count(advice.RECOMMENDED) <= 1
        assert all(row.fit == advice.FORBIDDEN for row in rows if institution(*answers).may_leave(row.kind) == "no")


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (("small", "some", "yes", "yes", "yes"), "weights"),
        (("small", "some", "no", "unknown", "yes"), "synthetic"),
        (("none", "team", "yes", "yes", "yes"), "images"),
        (("small", "unknown", "yes", "yes", "unknown"), ""),
        (("large", "team", "no", "no", "no"), ""),
    ],
)
def test_the_least_patient_data_that_capacity_and_law_allow(answers: tuple[str, ...], kind: str) -> None:
    assert advice.recommend(institution(*answers)).kind == kind
