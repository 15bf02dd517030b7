"""What several files of integration tests share."""

import uuid

import pytest
from django.utils import timezone

from contributions.models import Contribution
from governance.board import services as boards
from governance.board.models import Motion
from jobs import engine
from portal.accounts.models import User
from portal.agreements.models import Agreement, SigningRequest
from portal.institutions.models import Institution
from portal.programmes.models import BaseModel, Programme
from tests import chest as chests
from tests import contributing, factories
from tests.standing import kept
from tests.trees import Verifier


@pytest.fixture(autouse=True)
def _a_code_outlives_its_half_minute(settings):
    """Accept the code of the step before (RFC 6238, 5.2), or a test begun at the end of a step is refused by chance."""
    settings.MFA_TOTP_TOLERANCE = 1


@pytest.fixture(autouse=True)
def _nobody_looks_into_an_open_transaction(request, monkeypatch):
    """Keep heartbeats, which see only what is committed, out of tests that commit nothing."""
    mark = request.node.get_closest_marker("django_db")
    if mark is None or not mark.kwargs.get("transaction"):
        monkeypatch.setattr(engine, "LOOK_SECONDS", 3600.0)


@pytest.fixture
def agreement(programme) -> Agreement:
    """An agreement with variables that is valid for two years."""
    return factories.agreement(programme, slug="full", text=factories.FULL_TEXT, months_valid=24)


@pytest.fixture
def volta(programme) -> Institution:
    """A member institution that has signed nothing."""
    return kept("volta", lambda: factories.admitted_institution("Volta Teaching Hospital", country="GH"))


@pytest.fixture
def case(agreement, volta) -> SigningRequest:
    """Waits for its first signature."""
    return factories.sent_case(volta, agreement)


@pytest.fixture
def chest_folder(tmp_path):
    """A chest X-ray programme with texts and a base model of its own; not a line of code."""
    return chests.write_folder(tmp_path)


@pytest.fixture
def chest(chest_folder, institution) -> Programme:
    """The second programme, beside the retina that `institution` has signed for."""
    factories.base_model(Programme.objects.get(slug="retina"))
    chests.apply(chest_folder)
    return Programme.objects.get(slug="chest-xray")


@pytest.fixture
def base(programme) -> BaseModel:
    return kept("base", lambda: contributing.registered_base(programme))


@pytest.fixture
def draft(institution, base, steward) -> Contribution:
    return contributing.draft(institution, base, by=steward)


@pytest.fixture
def at_status(institution, base, steward):
    """Return a contribution in a status, reached through the services."""

    def _at_status(status: str, content: bytes = b"w" * 100) -> Contribution:
        return contributing.at_status(status, institution, base, by=steward, content=content)

    return _at_status


@pytest.fixture
def motion(programme, board) -> Motion:
    """An application before the board of three."""
    institution = factories.applied_institution("Lake Hospital", country="TZ", image_count=12_000)
    found = boards.refer_institution(institution.pk, now=timezone.now())
    assert found is not None
    return found


@pytest.fixture
def four(programme) -> list[User]:
    """Four members of the board; the first is the chair."""
    return factories.board(4)


@pytest.fixture
def tied(four) -> Motion:
    """An application on which two of four voted for it and two against."""
    found = boards.refer_institution(factories.applied_institution("Lake Hospital").pk, now=timezone.now())
    assert found is not None
    for voter, choice in zip(four, ("for", "for", "against", "against"), strict=True):
        factories.cast(found, voter, choice, "No ethics approval.")
    found.refresh_from_db()
    return found


@pytest.fixture
def log_origin(settings, db) -> str:
    """A name of the log for this test alone: no checkpoint of another test can be deleted from the bucket."""
    settings.AUDIT_ORIGIN = f"{uuid.uuid4().hex}.example.org/log"
    return settings.AUDIT_ORIGIN


@pytest.fixture
def verifier(tmp_path) -> Verifier:
    """Somebody outside, with the kit and the portal's public key."""
    return Verifier(tmp_path)


@pytest.fixture
def browser(sign_in, steward):
    """A client in which the steward is signed in."""
    return sign_in(steward)
