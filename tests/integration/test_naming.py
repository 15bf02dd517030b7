"""Institutions that asked not to be named: releases count them, and show neither their name nor their titles."""

import pytest
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from contributions.corpora import services as corpora
from contributions.models import Contribution
from governance.board.models import Motion
from portal.institutions import merging
from portal.institutions import services as institutions
from portal.institutions.forms import ProfileForm
from portal.institutions.models import Institution
from portal.institutions.vocabulary import Role
from tests import candidates, factories

pytestmark = pytest.mark.services

UNNAMED = "An institution that asked not to be named"


def asks_not_to_be_named(institution: Institution) -> None:
    investigator = factories.person_of(institution, Role.PRINCIPAL_INVESTIGATOR)
    institutions.change_profile(institution, by=investigator, naming="unnamed")


@pytest.fixture
def generator(institution, board) -> Contribution:
    """Weights whose title says whose they are."""
    contribution = approved(institution)
    Contribution.objects.filter(pk=contribution.pk).update(title=f"Weights of {institution}")
    contribution.refresh_from_db()
    return contribution


def approved(institution: Institution) -> Contribution:
    contribution = factories.reviewed_contribution(institution, f"weights of {institution}".encode())
    factories.vote_all(Motion.objects.get(contribution=contribution))
    contribution.refresh_from_db()
    return contribution


def released(programme, *generators: Contribution):
    row = candidates.candidate(programme, mixture=candidates.corpus(programme, *generators))
    candidates.evaluations(row)
    return candidates.released(row)


def test_a_release_names_who_gave(programme, institution, generator):
    release = released(programme, generator)
    page = Client().get(release.get_absolute_url()).text
    assert f"Contributions by {institution.name}." in page
    assert f"Weights of {institution}" in page
    assert UNNAMED not in page


def test_a_release_counts_who_asked_not_to_be_named(programme, institution, generator):
    asks_not_to_be_named(institution)
    release = released(programme, generator)
    page = Client().get(release.get_absolute_url()).text
    assert "Contributions by one institution that asked not to be named." in page
    assert UNNAMED in page
    assert f"C-{generator.pk}" in page
    assert institution.name not in page  # the card is on the page, too


def test_several_are_counted_after_the_names(programme, institution, generator, outsider):
    other = outsider.memberships.current().get().institution
    third = factories.member_institution("Zagreb Eye Clinic")
    for row in (institution, other):
        asks_not_to_be_named(row)
    mixture = candidates.corpus(programme, generator, *map(approved, (other, third)))
    assert corpora.credits_of(mixture) == ["Zagreb Eye Clinic", "2 institutions that asked not to be named"]


def test_the_wish_of_what_it_was_merged_into_counts(programme, institution, generator, operator):
    successor = factories.member_institution("Zagreb Eye Clinic")
    asks_not_to_be_named(successor)
    mixture = candidates.corpus(programme, generator)
    assert corpora.credits_of(mixture) == [institution.name]
    merging.merge(institution, successor, by=operator, now=timezone.now())
    assert corpora.credits_of(mixture) == ["one institution that asked not to be named"]


@pytest.mark.parametrize("naming", ["named", "unnamed"])
def test_what_was_merged_and_its_successor_are_one(programme, institution, generator, operator, naming):
    successor = factories.member_institution("Zagreb Eye Clinic")
    mixture = candidates.corpus(programme, generator, approved(successor))
    assert corpora.credits_of(mixture) == [institution.name, "Zagreb Eye Clinic"]
    if naming == "unnamed":
        asks_not_to_be_named(successor)
    merging.merge(institution, successor, by=operator, now=timezone.now())
    one = {"named": "Zagreb Eye Clinic", "unnamed": "one institution that asked not to be named"}
    assert corpora.credits_of(mixture) == [one[naming]]


def test_a_form_without_the_question_changes_nothing(institution):
    asks_not_to_be_named(institution)
    institution.refresh_from_db()
    form = ProfileForm(QueryDict("city=Eldoret"), institution=institution, only=["city", "naming"])
    assert form.is_valid()
    assert form.cleaned_data["naming"] == "unnamed"
