"""Models: the licence and its acceptance, the downloads, who sees what, and what the database refuses."""

import hashlib
import subprocess

import pytest
import urllib3
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone

from governance.releases import cards
from governance.releases import services as releases
from governance.releases.models import Candidate, Download, License, LicenseAcceptance, Release, ReleaseFile
from portal.accounts import services as accounts
from portal.accounts.models import ApiToken
from portal.audit.models import AuditEvent
from portal.programmes.models import Programme
from tests import candidates, factories
from tests.standing import kept

FILES = [
    "LICENSE.txt", "README.md", "SHA256SUMS", "config.json", "evaluation.json", "model.safetensors", "training.json",
    "transform.json",
]  # fmt: skip
FACTS = {"typed_name": "Rosa Researcher", "institution_name": "Independent", "purpose": "A thesis."}


@pytest.fixture
def candidate(programme) -> Candidate:
    def build() -> Candidate:
        row = candidates.candidate(programme)
        candidates.evaluations(row)
        return row

    return kept("candidate", build)


@pytest.fixture
def release(candidate) -> Release:
    return kept("release", lambda: candidates.released(candidate))


def address(release: Release, name: str = "model.safetensors") -> str:
    return f"/dl/{release.slug}/{name}"


def bearer(user) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {accounts.create_token(user, name='curl', now=timezone.now())}"}


# The licence


def test_a_released_model_has_its_files(release):
    assert list(release.files.values_list("name", flat=True)) == FILES
    assert (
        release.files.get(name="model.safetensors").sha256 == hashlib.sha256(candidates.measured().weights).hexdigest()
    )


def test_accepting_keeps_who_what_when_and_why(release, researcher, sign_in):
    client, page = sign_in(researcher), f"/models/{release.slug}/accept/"
    form = client.get(page).context["form"]
    answer = client.post(page, {**FACTS, "license_sha256": form.initial["license_sha256"], "agree": "on"})
    row = LicenseAcceptance.objects.get()
    assert (answer.status_code, answer.url) == (302, f"/models/{release.slug}/")
    assert (row.user, row.release, row.license_sha256) == (researcher, release, release.license.sha256)
    assert (row.typed_name, row.purpose, row.channel) == ("Rosa Researcher", "A thesis.", "browser")
    event = AuditEvent.objects.get(verb="license.accepted")
    assert (event.actor_id, event.facts["sha256"]) == (researcher.pk, release.license.sha256)


def test_accepting_another_text_is_refused(release, researcher, sign_in):
    form = {**FACTS, "license_sha256": "0" * 64, "agree": "on"}
    assert sign_in(researcher).post(f"/models/{release.slug}/accept/", form).status_code == 400
    assert LicenseAcceptance.objects.count() == 0


@pytest.mark.parametrize("missing", ["typed_name", "purpose", "institution_name", "agree"])
def test_an_incomplete_acceptance_is_shown_again(release, researcher, sign_in, missing):
    form = {**FACTS, "license_sha256": release.license.sha256, "agree": "on"}
    form.pop(missing)
    answer = sign_in(researcher).post(f"/models/{release.slug}/accept/", form)
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, [missing])


def test_accepting_again_changes_nothing(release, researcher):
    candidates.accept(release, researcher)
    candidates.accept(release, researcher)
    assert LicenseAcceptance.objects.count() == 1
    assert AuditEvent.objects.filter(verb="license.accepted").count() == 1


def test_a_proposed_release_cannot_be_accepted(candidate, board_member):
    with pytest.raises(releases.Withdrawn):
        candidates.accept(candidates.proposed(candidate), board_member)


def test_the_api_accepts_too(release, researcher):
    body = {"licence_sha256": release.license.sha256, "typed_name": "Rosa", "purpose": "A thesis.", "institution": "-"}
    answer = Client().post(
        f"/api/v1/models/{release.slug}/accept", body, content_type="application/json", **bearer(researcher)
    )
    assert (answer.status_code, LicenseAcceptance.objects.get().channel) == (201, "api")


# Downloads


def test_a_stranger_is_asked_to_sign_in(release):
    answer = Client().get(address(release), HTTP_ACCEPT="*/*")
    body = answer.json()
    assert (answer.status_code, answer["WWW-Authenticate"], body["code"]) == (401, "Bearer", "not_signed_in")
    assert body["next_url"] == f"/accounts/login/?next=%2Fdl%2F{release.slug}%2Fmodel.safetensors"


def test_without_acceptance_the_answer_says_where_to_accept(release, researcher):
    answer = Client().get(address(release), **bearer(researcher))
    body = answer.json()
    assert (answer.status_code, answer["Content-Type"]) == (403, "application/problem+json")
    assert (body["code"], body["next_url"]) == ("licence_not_accepted", f"/models/{release.slug}/accept/")
    assert Client().head(address(release), **bearer(researcher)).status_code == 403


def test_the_address_gives_the_files_own_bytes(release, researcher):
    candidates.accept(release, researcher)
    answer = Client().get(address(release), **bearer(researcher))
    assert (answer.status_code, answer["Cache-Control"]) == (307, "no-store")
    got = urllib3.request("GET", answer.url)
    assert hashlib.sha256(got.data).hexdigest() == release.files.get(name="model.safetensors").sha256
    assert got.headers["Content-Disposition"] == 'attachment; filename="model.safetensors"'
    part = urllib3.request("GET", answer.url, headers={"Range": "bytes=10-"})
    assert (part.status, part.data, part.headers["ETag"]) == (206, got.data[10:], got.headers["ETag"])


def test_sha256sums_verifies_every_file(release, researcher, tmp_path):
    candidates.accept(release, researcher)
    auth = bearer(researcher)
    for name in FILES:
        url = Client().get(address(release, name), **auth).url
        (tmp_path / name).write_bytes(urllib3.request("GET", url).data)
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count(": OK")) == (0, len(FILES) - 1)


def test_head_is_answered_by_the_site(release, researcher):
    candidates.accept(release, researcher)
    answer = Client().head(address(release), **bearer(researcher))
    file = release.files.get(name="model.safetensors")
    assert (answer.status_code, answer["Content-Length"]) == (200, str(file.size_bytes))
    assert (answer["ETag"], answer["Accept-Ranges"]) == (f'"{file.sha256}"', "bytes")
    assert Download.objects.count() == 0


def test_a_download_is_counted_and_its_address_is_not_kept(release, researcher, sign_in):
    candidates.accept(release, researcher)
    url = sign_in(researcher).get(address(release)).url
    assert Download.objects.get().user == researcher
    event = AuditEvent.objects.get(verb="release.downloaded")
    assert event.facts == {"file": "model.safetensors"}
    assert "X-Amz-Signature" in url
    assert "X-Amz" not in str(event.facts)


def test_other_addresses_are_not_found(release, researcher):
    candidates.accept(release, researcher)
    auth = bearer(researcher)
    assert Client().get(address(release, "nothing.bin"), **auth).status_code == 404
    assert Client().get("/dl/no-such-model/model.safetensors", **auth).status_code == 404


def test_a_retracted_release_is_gone_and_its_page_stays(release, researcher, sign_in):
    candidates.accept(release, researcher)
    releases.retract(release.pk, by=None, reason="The labels were wrong.", now=timezone.now())
    answer = Client().get(address(release), **bearer(researcher))
    assert (answer.status_code, answer.json()["code"]) == (410, "withdrawn")
    page = sign_in(researcher).get(f"/models/{release.slug}/")
    assert (page.status_code, address(release) in page.content.decode()) == (200, False)
    assert "The labels were wrong." in page.content.decode()


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer grf_wrong", "Basic abc"])
def test_a_token_that_is_none_opens_nothing(release, token):
    assert Client().get(address(release), HTTP_AUTHORIZATION=token).status_code == 401


def test_a_token_must_be_alive(release, researcher):
    candidates.accept(release, researcher)
    auth = bearer(researcher)
    assert Client().get(address(release), **auth).status_code == 307
    accounts.revoke_token(ApiToken.objects.get(), by=researcher, now=timezone.now())
    assert Client().get(address(release), **auth).status_code == 401
    ApiToken.objects.update(revoked_at=None, expires_at=timezone.now())
    assert Client().get(address(release), **auth).status_code == 401


def test_a_token_opens_downloads_and_no_page(release, researcher):
    answer = Client().get(f"/models/{release.slug}/accept/", **bearer(researcher))
    assert (answer.status_code, answer.url) == (302, f"/accounts/login/?next=/models/{release.slug}/accept/")


def test_a_proposal_is_not_found_by_downloads(candidate, operator):
    release = candidates.proposed(candidate)
    releases.add_file(release, name="README.md", content=b"early", content_type="text/plain")
    assert Client().get(address(release, "README.md"), **bearer(operator)).status_code == 404


# Pages


@pytest.mark.parametrize(
    ("person", "status"), [("researcher", 404), ("outsider", 404), ("board_member", 200), ("auditor", 200)]
)
def test_a_proposal_is_seen_by_the_board_only(candidate, person, status, sign_in, request):
    release = candidates.proposed(candidate)
    client = sign_in(request.getfixturevalue(person))
    assert client.get(f"/models/{release.slug}/").status_code == status
    listed = [row.pk for row in client.get("/models/").context["releases"]]
    assert listed == ([release.pk] if status == 200 else [])


def test_the_public_reads_a_released_model(release):
    page = Client().get(f"/models/{release.slug}/")
    text = page.content.decode()
    assert page.status_code == 200
    assert page.context["files"][0]["url"] == ""
    assert [address(release, name) in text for name in FILES] == [False] * len(FILES)
    assert "Accept the licence and download" in text
    assert "Grey squares" in text


def test_who_accepted_gets_links_and_commands(release, researcher, sign_in):
    candidates.accept(release, researcher)
    page = sign_in(researcher).get(f"/models/{release.slug}/")
    assert [file["url"] for file in page.context["files"]] == [address(release, name) for name in FILES]
    assert f"-O http://testserver{address(release)}" in page.context["curl_command"]
    assert page.context["curl_command"].endswith("sha256sum -c SHA256SUMS --ignore-missing")


def test_nobody_reads_anothers_purpose(release, researcher, outsider, sign_in):
    candidates.accept(release, researcher)
    for page in (f"/models/{release.slug}/", f"/models/{release.slug}/accept/", "/licences/CC-BY-NC-4.0/"):
        assert "Comparing encoders." not in sign_in(outsider).get(page).content.decode()


def test_the_licence_page_shows_the_text_and_its_hash(release):
    text = Client().get("/licences/CC-BY-NC-4.0/").content.decode()
    assert candidates.LICENCE_TEXT.splitlines()[0] in text
    assert hashlib.sha256(candidates.LICENCE_TEXT.encode()).hexdigest() in text


def test_accepting_needs_a_person(release):
    assert Client().get(f"/models/{release.slug}/accept/").status_code == 302


def test_the_catalogue_asks_the_same_number_of_questions(programme, django_assert_num_queries, operator):
    candidates.released(candidates.candidate(programme))
    with django_assert_num_queries(1):
        Client().get("/models/")
    for version in ("2.0", "3.0"):
        candidates.released(candidates.candidate(programme, seed=1), version=version)
    with django_assert_num_queries(1):
        Client().get("/models/")


def test_the_list_over_the_api_asks_the_same_number_of_questions(
    programme, researcher, operator, django_assert_max_num_queries
):
    candidates.accept(candidates.released(candidates.candidate(programme)), researcher)
    auth = bearer(researcher)

    def listed() -> list[tuple[str, bool]]:
        return [(row["version"], row["accepted"]) for row in Client().get("/api/v1/models", **auth).json()]

    listed()  # notes when the token was used
    with django_assert_max_num_queries(8) as one:
        assert listed() == [("1.0", True)]
    for version in ("2.0", "3.0"):
        candidates.released(candidates.candidate(programme), version=version)
    with django_assert_max_num_queries(len(one)):
        assert listed() == [("3.0", False), ("2.0", False), ("1.0", True)]


# The database repeats the rules


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE releases_license SET text = 'all rights reserved'",
        "DELETE FROM releases_license",
        "UPDATE releases_licenseacceptance SET purpose = 'none'",
        "DELETE FROM releases_licenseacceptance",
        "UPDATE releases_download SET at = now()",
        "DELETE FROM releases_download",
    ],
)
def test_what_was_agreed_is_append_only(release, researcher, statement):
    candidates.accept(release, researcher)
    releases.sign_download(release.files.earliest("pk"), by=researcher, now=timezone.now())
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert (License.objects.count(), LicenseAcceptance.objects.count(), Download.objects.count()) == (1, 1, 1)


@pytest.mark.parametrize(
    ("model", "changes", "constraint"),
    [
        (Release, {"status": "gone", "released_at": None}, "release_status_known"),
        (Release, {"released_at": None}, "release_released_at_iff_released"),
        (Release, {"retracted_at": timezone.now()}, "release_retracted_at_iff_retracted"),
        (ReleaseFile, {"sha256": "none"}, "release_file_sha256"),
        (Candidate, {"sha256": "none"}, "candidate_sha256"),
        (Candidate, {"corpus": None}, "trained_candidate_names_its_corpus"),
    ],
)
def test_constraints(release, model, changes, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        model.objects.update(**changes)


def test_a_licence_has_a_hash(db):
    with pytest.raises(IntegrityError, match="license_sha256"), transaction.atomic():
        License.objects.create(spdx_id="X", title="X", url="https://example.org", text="X", sha256="none")


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"purpose": ""}, "acceptance_states_purpose"),
        ({"license_sha256": "none"}, "acceptance_sha256"),
    ],
)
def test_acceptance_constraints(release, researcher, changes, constraint):
    facts = {
        **FACTS,
        "user": researcher,
        "release": release,
        "license": release.license,
        "license_sha256": release.license.sha256,
        "channel": "browser",
        "accepted_at": timezone.now(),
    }
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        LicenseAcceptance.objects.create(**{**facts, **changes})


def test_one_acceptance_per_release_and_text(release, researcher):
    candidates.accept(release, researcher)
    twin = LicenseAcceptance.objects.get()
    twin.pk = None
    with pytest.raises(IntegrityError, match="one_acceptance_per_release_and_text"), transaction.atomic():
        twin.save()


def test_one_file_per_name(release):
    twin = release.files.get(name="README.md")
    twin.pk, twin.storage_key = None, "elsewhere"
    with pytest.raises(IntegrityError, match="one_release_file_per_name"), transaction.atomic():
        twin.save()


def test_a_candidate_is_proposed_once(release):
    with pytest.raises(releases.AlreadyProposed):
        candidates.proposed(release.candidate, version="2.0")


def test_proposing_a_taken_version_is_shown_again(release, operator, sign_in):
    second = candidates.candidate(release.candidate.programme, release.name)
    page = f"/board/propose/{second.slug}/"
    form = {"name": release.name, "version": release.version, "license": release.license_id, "card": "# Card"}
    answer = sign_in(operator).post(page, form)
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["version"])


@pytest.mark.parametrize(("person", "status"), [("operator", 200), ("chair", 200), ("board_member", 403)])
def test_who_may_propose(candidate, person, status, sign_in, request):
    client = sign_in(request.getfixturevalue(person))
    assert client.get(f"/board/propose/{candidate.slug}/").status_code == status


def test_the_board_declines_with_its_reasons(candidate, board):
    release = candidates.proposed(candidate)
    factories.vote_all(release.motions.get(), "against", "Too few countries.")
    release.refresh_from_db()
    assert (release.status, release.reason) == ("declined", "The board voted against it. Too few countries.")


def test_the_card_and_the_list_speak_of_the_programmes_own_images(release, client):
    Programme.objects.update(slug="skin", modality="dermatoscopy")
    Candidate.objects.update(description="")
    card = cards.draft(Candidate.objects.get(), [])
    assert "\ntags: [medical, skin]\n" in card
    assert "Research on representations of images (dermatoscopy): features" in card
    assert [word for word in ("retina", "fundus", "ophthalmology") if word in card.lower()] == []
    assert "<p>Dermatoscopy</p>" in client.get("/models/").text
