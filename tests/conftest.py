"""What every test shares: the services (tests/services.py), the clock, and the same few people."""

import fcntl
import gc
import math
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.contrib.auth.hashers import ScryptPasswordHasher
from django.db import connection
from django.test import Client
from django.utils import timezone

from jobs import maintenance
from portal import queue, storage
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.celery import app
from portal.institutions.models import Institution, Membership
from portal.notifications import outbox
from portal.programmes.models import Programme
from tests import factories
from tests.standing import kept

Role = Membership.Role


# What these make once for all their tests takes long: each stays in one process.
TOGETHER = {
    "test_kit_fit",
    "test_kit_latent",
    "test_kit_prepare",
    "test_kit_synthetic",
    "test_kit_wheel",
    "test_upgrade",
}
# Python looks for cycles after each 700 new objects, among all that torch and Django made: a tenth of the time.
gc.set_threshold(100_000, 20, 100)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep some modules together, and put first what takes long: who has done the rest would wait for it at the end."""
    for item in items:
        if _is_together(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: ("browser" not in item.keywords, "slow" not in item.keywords, not _is_together(item)))


def _is_together(item: pytest.Item) -> bool:
    return item.path.stem in TOGETHER


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector need not look at it again."""
    gc.freeze()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings, django_db_blocker):
    """Every process's database is a copy of one that was migrated once."""
    with django_db_blocker.unblock():
        connection.settings_dict["TEST"]["TEMPLATE"] = migrated_template()


def migrated_template() -> str:
    """Return the name of a migrated database; the first process that asks makes it, the others wait for it."""
    name, made, database = "template_tests", Path(os.environ["TEST_SERVICES"]) / "template", connection.settings_dict
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            own, own_test = database["NAME"], database["TEST"]["NAME"]
            database["TEST"]["NAME"] = name
            connection.creation.create_test_db(verbosity=0, serialize=False)
            connection.close()
            connection.close_pool()  # nobody may be connected to what is copied
            database["NAME"], database["TEST"]["NAME"] = own, own_test
            made.touch()
    return name


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup):
    """Create this process's buckets beside its database."""
    storage.ensure_buckets()


@pytest.fixture(autouse=True)
def _plain_static_files(settings):
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture(autouse=True)
def _passwords_are_hashed_quickly(monkeypatch):
    """The work factor is there to take time: 226 passwords of the suite took 57 s of a core."""
    monkeypatch.setattr(ScryptPasswordHasher, "work_factor", 2)


@pytest.fixture(autouse=True)
def _the_site_is_open(monkeypatch):
    """What the test before knew of the read-only switch is not this test's; nor is it asked for at a chance moment."""
    monkeypatch.setattr(maintenance, "memory", maintenance._Memory(until=math.inf))


@pytest.fixture(autouse=True)
def _the_broker_is_asked(monkeypatch):
    """A broker that failed in the test before is not left alone in this one."""
    monkeypatch.setattr(queue, "_resting_until", 0.0)


@pytest.fixture(autouse=True)
def _mail_leaves_after_the_commit(monkeypatch):
    """Let the ring at the outbox send at once, as the worker does seconds later; other messages go to the broker."""
    real = app.send_task

    def send_task(name, *args, **kwargs):
        if name == "jobs.send_outbox":
            return outbox.send_due(now=timezone.now())
        return real(name, *args, **kwargs)

    monkeypatch.setattr(app, "send_task", send_task)


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def programme(db) -> Programme:
    return kept("programme", factories.programme)


@pytest.fixture
def institution(programme) -> Institution:
    """A member institution in Kenya, signed; `steward`, `signing_official` and `member` belong to it."""
    return kept("institution", lambda: factories.member_institution("Moi Eye Clinic", country="KE"))


@pytest.fixture
def investigator(institution) -> User:
    return kept("investigator", lambda: factories.person_of(institution, Role.PRINCIPAL_INVESTIGATOR))


@pytest.fixture
def steward(institution) -> User:
    return kept("steward", lambda: factories.person_of(institution, Role.STEWARD))


@pytest.fixture
def signing_official(institution) -> User:
    return kept("signing_official", lambda: factories.person_of(institution, Role.SIGNING_OFFICIAL))


@pytest.fixture
def member(institution) -> User:
    return kept("member", lambda: factories.person_of(institution, Role.MEMBER))


@pytest.fixture
def outsider(programme) -> User:
    """The steward of another member institution: data that could leak to."""

    def build() -> User:
        return factories.person_of(factories.member_institution("Andes Retina", country="PE"), Role.STEWARD)

    return kept("outsider", build)


@pytest.fixture
def researcher(db) -> User:
    """Signed up, verified, belongs nowhere."""
    # enrolled, for she may become a principal investigator in a test
    return kept("researcher", lambda: factories.enrol(factories.user("Rosa Researcher")))


@pytest.fixture
def board(db) -> list[User]:
    """Three members; the first is the chair."""
    return kept("board", factories.board)


@pytest.fixture
def chair(board) -> User:
    return board[0]


@pytest.fixture
def board_member(board) -> User:
    return board[1]


@pytest.fixture
def operator(db) -> User:
    return kept("operator", lambda: factories.consortium_person("Olu Operator", "operator"))


@pytest.fixture
def auditor(db) -> User:
    return kept("auditor", lambda: factories.consortium_person("Ada Auditor", "auditor"))


@pytest.fixture
def sign_in(db):
    """Return a client signed in as a person."""

    def _sign_in(user: User) -> Client:
        client = Client()
        if accounts.needs_second_factor(user):
            factories.enrol(user)
        user.refresh_from_db(fields=["password", "session_generation"])  # what the session is tied to
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return _sign_in
