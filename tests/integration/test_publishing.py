"""Releases among others who act at the same moment: publishing, accepting, retracting."""

import hashlib
import json
from threading import Thread

import pytest
from django.db import connection
from django.utils import timezone

from governance.benchmarks import services as benchmarks
from governance.releases import cards
from governance.releases import services as releases
from governance.releases.models import LicenseAcceptance, Release
from jobs.publish import publish
from portal import storage
from portal.accounts.models import User
from tests import candidates, factories
from tests.races import until_somebody_waits, while_locked

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def carried(programme) -> Release:
    """Carried by the board, its files not in place yet."""
    factories.board()
    candidate = candidates.candidate(programme)
    candidates.evaluations(candidate)
    release = candidates.proposed(candidate)
    factories.vote_all(release.motions.get())
    release.refresh_from_db()
    return release


def test_two_who_publish_at_once_leave_what_the_sums_say(carried, monkeypatch):
    """The sweep comes while the task of the vote is about to write the evaluation; a newer one was made meanwhile."""
    decided_on = json.dumps([row.report for row in benchmarks.latest(carried.candidate)], indent=2) + "\n"
    real, threads = storage.put, []

    def put(bucket, key, content, **more) -> None:
        if key.endswith("evaluation.json") and not threads:
            candidates.evaluations(carried.candidate, seed=2, run_id=10**6)
            threads.append(Thread(target=sweep))
            threads[0].start()
            until_somebody_waits()
        real(bucket, key, content, **more)

    raised: list[BaseException] = []

    def sweep() -> None:
        try:
            publish(carried.pk)
        except Exception as exc:
            raised.append(exc)
        finally:
            connection.close()

    monkeypatch.setattr(storage, "put", put)
    publish(carried.pk)
    threads[0].join()
    assert raised == []
    assert carried.files.count() == 8
    assert storage.get(storage.RELEASES, carried.files.get(name="evaluation.json").storage_key).decode() == decided_on
    for file in carried.files.all():
        assert hashlib.sha256(storage.get(storage.RELEASES, file.storage_key)).hexdigest() == file.sha256, file.name


def accept(release: Release, by: User) -> None:
    candidates.accept(Release.objects.get(pk=release.pk), by)


def test_accepting_in_two_windows_at_once_is_accepting_once(carried):
    person = factories.user("Rosa Researcher")
    assert while_locked(lambda: accept(carried, person), lambda: accept(carried, person)) is None
    assert LicenseAcceptance.objects.count() == 1


def test_nobody_accepts_what_is_retracted_at_that_moment(carried):
    """Who had accepted would not have been told to stop using it."""
    person = factories.user("Rosa Researcher")
    retract = {"by": None, "reason": "The labels were wrong.", "now": timezone.now()}
    raised = while_locked(lambda: releases.retract(carried.pk, **retract), lambda: accept(carried, person))
    assert (type(raised), LicenseAcceptance.objects.count()) == (releases.Withdrawn, 0)


def test_the_card_names_the_licence_of_the_release(programme):
    operator = factories.consortium_person("Olu Operator", "operator")
    candidate = candidates.candidate(programme)
    open_licence = releases.register_license(
        spdx_id="CC-BY-4.0", title="Attribution 4.0", url="https://example.org", text="Share it.", by=None,
        now=timezone.now(),
    )  # fmt: skip
    card = cards.draft(candidate, [])
    release = releases.propose(
        candidate, name="Small", version="1.0", license=open_licence, card=card, by=operator, now=timezone.now()
    )
    assert release.card == card.replace("license: cc-by-nc-4.0", "license: cc-by-4.0")
    assert "license: cc-by-4.0\n" in release.card.split("---")[1]
