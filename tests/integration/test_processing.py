"""The record of processing, one's downloads, the report on an institution."""

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import models
from django.test.utils import isolate_apps
from django.utils import timezone

from governance.releases import services as releases
from portal import processing
from portal.accounts.models import User
from tests import factories, publishing


def table_of(answer) -> list[str]:
    return b"".join(answer.streaming_content).decode().splitlines()


# The record


def test_every_personal_field_is_on_record():
    assert (processing.unmapped(), processing.stale()) == ([], [])
    call_command("check", fail_level="ERROR")


def test_a_field_that_is_not_on_record_fails_the_build(monkeypatch):
    activity, names = processing.PERSONAL["accounts.User"]
    monkeypatch.setitem(processing.PERSONAL, "accounts.User", (activity, names.replace("name", "nickname")))
    found = [(row.id, row.msg.split()[0]) for row in processing.every_personal_field_is_on_record()]
    assert found == [("portal.E001", "accounts.User.name"), ("portal.E002", "accounts.User.nickname")]
    with pytest.raises(SystemCheckError, match="portal.E001"):
        call_command("check")


@isolate_apps("portal")
def test_what_can_be_personal():
    class Sample(models.Model):
        who = models.ForeignKey(User, on_delete=models.CASCADE)
        note = models.TextField()
        ip = models.GenericIPAddressField()
        size = models.IntegerField()
        actor_id = models.BigIntegerField()
        kind = models.CharField(max_length=1, choices=[("a", "A")])

        class Meta:
            app_label = "portal"

        def __str__(self) -> str:
            return self.note

    found = {field.name for field in Sample._meta.get_fields() if processing.can_be_personal(field)}
    assert found == {"who", "note", "ip", "actor_id"}


def test_everybody_reads_the_record(client, db):
    page = client.get("/privacy/record/").content.decode()
    assert "Signature: printed name" in page
    lines = table_of(client.get("/privacy/record.csv"))
    assert len(lines) == 1 + len(processing.ACTIVITIES)
    assert lines[0] == "activity,purpose,legal_basis,data_subjects,personal_data,recipients,retention"


def test_the_record_says_in_which_countries_contributions_are_kept(client, db, settings):
    assert "Not stated yet for this portal." in client.get("/privacy/record/").text
    settings.DATA_COUNTRIES = ["DE", "CH"]
    assert "kept and processed in Germany, Switzerland, and nowhere else." in client.get("/privacy/record/").text


def test_a_place_that_is_no_country_fails_the_check(settings):
    settings.DATA_COUNTRIES = ["DE", "EU"]
    with pytest.raises(SystemCheckError, match=r"portal.E003.*EU is no country"):
        call_command("check")


# Downloads


@pytest.fixture
def downloaded(programme, board, operator, researcher):
    """A file of a release that the researcher downloaded."""
    release = publishing.released_model(operator)
    releases.accept_license(
        release, license_sha256=release.license.sha256, typed_name="Rosa", institution_name="U", purpose="A thesis.",
        channel="browser", by=researcher, now=timezone.now(),
    )  # fmt: skip
    file = release.files.get(name="SHA256SUMS")
    releases.sign_download(file, by=researcher, now=timezone.now())
    return file


def test_one_sees_ones_own_downloads_with_their_licence(downloaded, researcher, member, sign_in):
    page = sign_in(researcher).get("/account/downloads/").content.decode()
    assert ("SHA256SUMS" in page, "A thesis." in page) == (True, True)
    [_, line] = table_of(sign_in(researcher).get("/account/downloads.csv"))
    cells = line.split(",")
    assert (cells[1:5], cells[6]) == (["tiny-1-0", "SHA256SUMS", downloaded.sha256, "CC-BY-NC-4.0"], "A thesis.")
    assert "SHA256SUMS" not in sign_in(member).get("/account/downloads/").content.decode()


def test_another_persons_downloads_are_for_auditors(downloaded, researcher, member, auditor, sign_in):
    for path in ("/account/downloads/", "/account/downloads.csv"):
        query = {"person": researcher.pk}
        assert sign_in(member).get(path, query).status_code == 403
        assert sign_in(auditor).get(path, query).status_code == 200
        assert sign_in(auditor).get(path, {"person": 999_999}).status_code == 404
    assert "SHA256SUMS" in sign_in(auditor).get("/account/downloads/", {"person": researcher.pk}).content.decode()


# The report on an institution


def test_the_report_holds_what_is_on_record(institution, steward, board, outsider, auditor, sign_in):
    contribution = factories.reviewed_contribution(institution)
    factories.vote_all(contribution.motions.get())
    path = f"/institutions/{institution.slug}/report/"
    page = sign_in(steward).get(path).content.decode()
    for text in (str(contribution), str(contribution.motions.get().decision), steward.name, "Data-use agreement"):
        assert text in page
    assert sign_in(auditor).get(path).status_code == 200
    assert sign_in(outsider).get(path).status_code == 403
    assert sign_in(factories.user("Rosa")).get(path).status_code == 403


def test_the_report_is_of_a_period(institution, steward, board, sign_in):
    contribution = factories.reviewed_contribution(institution)
    client, path = sign_in(steward), f"/institutions/{institution.slug}/report/"
    today = timezone.now().date().isoformat()
    assert list(client.get(path, {"start": today, "end": today}).context["contributions"]) == [contribution]
    assert list(client.get(path, {"end": "2020-01-01"}).context["contributions"]) == []
    assert client.get(path, {"start": "soon"}).status_code == 200
