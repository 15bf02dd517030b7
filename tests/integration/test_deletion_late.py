"""A worker that adds a picture while the files of its contribution are being deleted."""

import sys

import pytest
from django.urls import reverse
from django.utils import timezone

from contributions import deletion, reports
from portal import storage
from tests import contributing

pytestmark = pytest.mark.services


def test_a_picture_that_comes_during_the_deletion_goes_with_the_next(institution, steward, programme, monkeypatch):
    base = contributing.registered_base(programme)
    row = contributing.at_status("rejected", institution, base, by=steward)
    row, erase = deletion.ask(row, by=steward, now=timezone.now()), storage.erase
    folder = f"evidence/{row.pk}/"

    def erased(bucket: str, prefix: str) -> None:
        erase(bucket, prefix)
        if prefix == folder:
            reports.add_evidence(row, run_id=1, attempt=1, name="samples.png", content=b"late")

    monkeypatch.setattr(storage, "erase", erased)
    deletion.delete_files(row.pk, now=timezone.now())
    monkeypatch.undo()
    assert list(deletion.due(now=timezone.now())) == [row]
    deletion.delete_files(row.pk, now=timezone.now())
    left = [one.key for one in storage.objects(storage.VAULT) if one.key.startswith(folder)]
    assert (left, list(deletion.due(now=timezone.now()))) == ([], [])


def test_a_picture_whose_deletion_was_broken_off_is_not_found(institution, steward, programme, monkeypatch, sign_in):
    base = contributing.registered_base(programme)
    row = contributing.at_status("rejected", institution, base, by=steward)
    picture = reports.add_evidence(row, run_id=1, attempt=1, name="samples.png", content=b"a picture")
    address, client = reverse("contributions:evidence", args=[row.pk, picture.pk]), sign_in(steward)
    assert client.get(address).status_code == 200
    row = deletion.ask(row, by=steward, now=timezone.now())
    with monkeypatch.context() as worker:
        worker.setattr(deletion, "_note", lambda *args, **given: sys.exit())  # it is killed
        with pytest.raises(SystemExit):
            deletion.delete_files(row.pk, now=timezone.now())
    assert client.get(address).status_code == 404
    deletion.delete_files(row.pk, now=timezone.now())
    assert client.get(address).status_code == 404
