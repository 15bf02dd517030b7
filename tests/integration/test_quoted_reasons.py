"""A reason that somebody typed is quoted as it stands: the number of an account in it becomes nobody's name."""

import pytest

from portal.agreements import services as agreements
from portal.institutions import joining
from portal.institutions import services as institutions
from portal.notifications.services import with_names
from tests import factories

OFFICIAL = factories.Role.SIGNING_OFFICIAL


@pytest.fixture
def typed(outsider) -> str:
    """What somebody types who would learn who has the account with this number."""
    return f"{{person:{outsider.pk}}} said so."


def quoted(person, part: str) -> str:
    """Return the reason as the person's inbox, mail and webhooks say it."""
    (row,) = with_names(list(person.notifications.filter(subject__contains=part)))
    return row.text


def test_of_an_agreement_that_is_declined(case, volta, outsider, typed, now):
    official = factories.person_of(volta, OFFICIAL)
    agreements.decline(case, by=official, reason=typed, now=now)
    assert outsider.name not in quoted(official, "was declined")


@pytest.mark.parametrize("side", ["institution", "consortium"])
def test_of_an_agreement_that_is_ended(case, volta, outsider, typed, side, now):
    official = factories.person_of(volta, OFFICIAL)
    case = factories.signed_case(case)
    by = official if side == "institution" else factories.signatory()
    agreements.terminate(case, by=by, reason=typed, now=now)
    assert outsider.name not in quoted(official, "was terminated" if side == "institution" else f"{case} ends after")


def test_of_a_request_to_join_that_is_declined(institution, steward, researcher, outsider, typed, now):
    row = joining.ask(institution, role="member", message="", by=researcher, now=now)
    joining.decline(row, reason=typed, by=steward, now=now)
    assert outsider.name not in quoted(researcher, "was declined")


def test_of_an_application_that_is_declined(outsider, operator, typed, now):
    applicant = factories.applied_institution("Lake Hospital")
    institutions.decline_formally(applicant, code="other", reason=typed, by=operator, now=now)
    assert outsider.name not in quoted(factories.person_of(applicant), "was not admitted")
