"""The profile that saves itself, the ethics document, the chosen kinds, and two who apply at once."""

import hashlib
import threading
from datetime import timedelta

import pytest
import urllib3
from django.db import IntegrityError, connection, transaction
from django.urls import reverse
from django.utils import timezone

from portal import storage
from portal.audit.models import AuditEvent
from portal.errors import NotAllowed
from portal.institutions import documents, onboarding, pathways, profile, services
from portal.institutions.forms import ProfileForm
from portal.institutions.models import Document, Institution, Membership, PathwayChoice, ProfileOption
from tests import factories

Role = Membership.Role
PDF = b"%PDF-1.7 an approval"


@pytest.fixture
def draft(programme) -> Institution:
    return factories.draft_institution("Lake Hospital", city="Kisumu")


@pytest.fixture
def lead(draft):
    return factories.person_of(draft)


def save(client, institution: Institution, field: str, **data):
    return client.post(reverse("institutions:save_field", args=[institution.slug, field]), data)


# Autosave


@pytest.mark.parametrize(
    ("field", "typed", "kept"),
    [
        ("name", "Lake Eye Hospital", "Lake Eye Hospital"),
        ("local_name", "មន្ទីរពេទ្យភ្នែក", "មន្ទីរពេទ្យភ្នែក"),
        ("ror_id", "https://ror.org/04cpxjv19", "04cpxjv19"),
        ("image_count", "1200", 1200),
        ("image_count", "", None),
        ("labels", ["dr", "amd"], ["dr", "amd"]),
        ("years_from", "2015", 2015),
        ("legal_basis", "waiver", "waiver"),
        ("legal_basis", "", "unknown"),
        ("ethnicity_recorded", "no", "no"),
    ],
)
def test_a_field_is_saved_when_it_is_left(sign_in, draft, lead, field, typed, kept):
    answer = save(sign_in(lead), draft, field, **{field: typed})
    assert "Saved" in answer.text
    draft.refresh_from_db()
    assert getattr(draft, field) == kept


@pytest.mark.parametrize(
    ("field", "typed", "says"),
    [
        ("name", "", "required"),
        ("ror_id", "04cpxjv18", "not a ROR id"),
        ("image_count", "many", "whole number"),
        ("image_count", "-1", "greater than or equal to 0"),
        ("years_from", "1900", "not a year"),
        ("years_to", "2030", "not a year"),
        ("labels", "everything", "valid choice"),
        ("country", "XX", "valid choice"),
    ],
)
def test_a_wrong_field_says_why_and_changes_nothing(sign_in, draft, lead, field, typed, says):
    before = getattr(draft, field)
    answer = save(sign_in(lead), draft, field, **{field: typed})
    assert "Not saved" in answer.text
    assert says in answer.text
    draft.refresh_from_db()
    assert getattr(draft, field) == before


@pytest.mark.parametrize(
    ("option", "constraint"),
    [
        ({"field": "labels", "code": "dr"}, "profile_option_once"),
        ({"field": "cameras", "code": "topcon"}, "profile_option_field_known"),
        ({"field": "labels", "code": "Late AMD"}, "profile_option_code_own"),
        ({"field": "labels", "code": "none"}, "profile_option_code_own"),
    ],
)
def test_the_database_holds_what_the_profile_offers_to_its_rules(programme, option, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        ProfileOption.objects.create(**option, name="New")


def test_years_are_held_in_order_across_fields(sign_in, draft, lead):
    client = sign_in(lead)
    save(client, draft, "years_to", years_to="2019")
    assert "before they begin" in save(client, draft, "years_from", years_from="2020").text
    assert "Saved" in save(client, draft, "years_from", years_from="2019").text


def test_the_region_follows_an_autosaved_country(sign_in, draft, lead):
    save(sign_in(lead), draft, "country", country="PE")
    draft.refresh_from_db()
    assert (draft.country, draft.subregion) == ("PE", "005")


def test_not_known_yet_is_an_answer_until_there_is_a_better_one(sign_in, draft, lead):
    client = sign_in(lead)
    assert "image_count" in profile.missing(draft)
    save(client, draft, "image_count", image_count="", unknown=["image_count"])
    draft.refresh_from_db()
    assert "image_count" not in profile.missing(draft)
    assert profile.in_words("image_count", None, unknown=draft.unknown) == "Not known yet"
    save(client, draft, "image_count", image_count="7", unknown=["image_count"])
    draft.refresh_from_db()
    assert (draft.image_count, draft.unknown) == (7, [])


def test_two_people_editing_lose_nothing_of_each_other(sign_in, draft, lead):
    """Without JavaScript each sends the whole form; only what each of them changed is written."""
    other = sign_in(factories.person_of(draft, Role.STEWARD))
    url = reverse("institutions:edit", args=[draft.slug])
    form = sign_in(lead).get(url).context["form"]
    page = {name: form[name].value() or "" for name in form.fields if name not in {"unknown"}}
    page |= {f"initial-{name}": value for name, value in page.items()}
    other.post(url, page | {"cameras": "Topcon", "city": "Kakamega"})
    answer = sign_in(lead).post(url, page | {"population_served": "All ages", "image_count": "many"})
    assert answer.status_code == 422
    assert "many" in answer.text  # what is wrong is kept with its message, the rest is saved
    draft.refresh_from_db()
    assert (draft.cameras, draft.city, draft.population_served) == ("Topcon", "Kakamega", "All ages")


def test_a_member_changes_its_profile_on_record_and_a_draft_does_not(sign_in, draft, lead, institution, steward):
    save(sign_in(lead), draft, "city", city="Busia")
    save(sign_in(steward), institution, "city", city="Eldoret")
    save(sign_in(steward), institution, "city", city="Eldoret")
    rows = AuditEvent.objects.filter(verb="institution.changed")
    assert [(row.subject_id, row.facts) for row in rows] == [(institution.pk, {"fields": ["city"]})]


@pytest.mark.parametrize("persona", ["member", "outsider", "operator"])
def test_only_managers_save_a_field_and_only_one_of_the_profile(sign_in, institution, request, persona, steward):
    person = request.getfixturevalue(persona)
    assert save(sign_in(person), institution, "city", city="X").status_code == 403
    for field in ("status", "slug", "decision_reason", "unknown"):
        assert save(sign_in(steward), institution, field, **{field: "x"}).status_code == 404


def test_every_field_says_why_it_is_asked(draft):
    form = ProfileForm(institution=draft)
    assert [name for name in profile.FIELDS if not getattr(form.fields[name], "why", "")] == []
    assert set(profile.HINTS) == set(profile.FIELDS)


def test_the_checklist_names_and_links_what_is_missing(sign_in, draft, lead):
    page = sign_in(lead).get(reverse("institutions:onboarding", args=[draft.slug]))
    labels = [label for label, _ in onboarding.missing(draft)]
    assert "Website" in labels
    assert all(f"{url}" in page.text for _, url in onboarding.missing(draft))


# The ethics document


def announce(client, institution: Institution, content: bytes = PDF, *, name: str = "approval.pdf"):
    body = {"name": name, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    url = reverse("institutions:announce_document", args=[institution.slug])
    return client.post(url, body, content_type="application/json")


def put(answer, content: bytes):
    headers = answer.json()["headers"]
    return urllib3.request("PUT", answer.json()["url"], body=content, headers=headers).status


def complete(client, institution: Institution, answer):
    return client.post(reverse("institutions:complete_document", args=[institution.slug, answer.json()["id"]]))


def test_a_document_goes_straight_to_quarantine_and_comes_back_as_an_attachment(
    sign_in, institution, steward, member, operator, outsider, researcher
):
    client = sign_in(steward)
    answer = announce(client, institution)
    assert answer.status_code == 201
    assert complete(client, institution, answer).status_code == 409  # not there yet
    assert put(answer, PDF) == 200
    assert complete(client, institution, answer).json()["state"] == "stored"
    url = reverse("institutions:document", args=[institution.slug, answer.json()["id"]])
    for person in (steward, member, operator):
        address = sign_in(person).get(url).headers["Location"]
        got = urllib3.request("GET", address)
        assert (got.data, got.headers["Content-Disposition"].startswith("attachment;")) == (PDF, True)
    for person in (outsider, researcher):
        assert sign_in(person).get(url).status_code == 403
    assert client.get(url.replace(institution.slug, "andes-retina")).status_code == 403
    second = announce(client, institution, PDF + b"2")
    assert [row.version for row in Document.objects.all()] == [2, 1]
    assert announce(client, institution).status_code == 400  # this version is here already
    assert second.json()["id"] != answer.json()["id"]


def test_the_store_refuses_other_bytes_than_were_announced(sign_in, institution, steward):
    answer = announce(sign_in(steward), institution)
    assert put(answer, b"X" * len(PDF)) >= 400  # another hash
    assert put(answer, PDF + b"more") >= 400  # another length
    assert storage.size(storage.QUARANTINE, Document.objects.get().key) is None


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("approval.exe", PDF, "not a PDF"),
        ("approval", PDF, "not a PDF"),
        ("a/b.pdf", PDF, "slashes"),
        ("a\u202eb.pdf", PDF, "slashes"),
        ("", PDF, "name"),
        ("empty.pdf", b"", "0 bytes"),
    ],
)
def test_what_is_no_document_is_refused_with_what_to_do(sign_in, institution, steward, name, content, says):
    answer = announce(sign_in(steward), institution, content, name=name)
    assert answer.status_code == 400
    assert says in answer.json()["detail"]
    assert not Document.objects.exists()


def test_a_document_over_the_limit_or_of_a_stranger_is_refused(sign_in, institution, steward, member, outsider):
    with pytest.raises(documents.DocumentRefused, match="bytes"):
        documents.check(name="a.pdf", size_bytes=documents.MAX_BYTES + 1, sha256="0" * 64)
    for person in (member, outsider):
        assert announce(sign_in(person), institution).status_code == 403
    bad = sign_in(steward).post(
        reverse("institutions:announce_document", args=[institution.slug]), "[]", content_type="application/json"
    )
    assert bad.status_code == 400


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("document_version_once", {"version": 2}),
        ("document_once_per_institution", {"sha256": hashlib.sha256(b"two").hexdigest()}),
        ("document_state_known", {"state": "lost"}),
        ("document_sha256", {"sha256": "x"}),
        ("document_size_in_range", {"size_bytes": 0}),
        ("document_size_in_range", {"size_bytes": 20 * 2**20 + 1}),
        ("key", {"key": "taken"}),
    ],
)
def test_the_database_refuses_an_impossible_document(institution, steward, constraint, changes):
    for content in (b"one", b"two"):
        documents.announce(
            institution,
            name="a.pdf",
            size_bytes=3,
            sha256=hashlib.sha256(content).hexdigest(),
            by=steward,
            now=timezone.now(),
        )
    Document.objects.filter(version=2).update(key="taken")
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Document.objects.filter(version=1).update(**changes)


# Chosen kinds


def test_kinds_are_chosen_after_a_confirmation_and_change_later(sign_in, institution, steward, member):
    url = reverse("institutions:pathway", args=[institution.slug])
    client = sign_in(steward)
    asked = client.post(url, {"kinds": ["weights", "images"]})
    assert "Is this what you want?" in asked.text
    assert institution.chosen_kinds() == set()
    client.post(url, {"kinds": ["weights", "images"], "confirm": "1"})
    assert institution.chosen_kinds() == {"weights", "images"}
    client.post(url, {"kinds": ["images", "synthetic", "bogus"], "confirm": "1"})
    assert institution.chosen_kinds() == {"images", "synthetic"}
    assert list(PathwayChoice.objects.exclude(ended_at=None).values_list("kind", flat=True)) == ["weights"]
    assert sign_in(member).get(url).status_code == 200
    assert sign_in(member).post(url, {"kinds": [], "confirm": "1"}).status_code == 403
    assert AuditEvent.objects.filter(verb="institution.pathway_chosen").count() == 2


def test_what_the_rules_forbid_is_not_chosen(institution, steward):
    services.change_profile(institution, by=steward, images_may_leave="no")
    with pytest.raises(pathways.PathwayRefused, match="may not leave"):
        pathways.choose(institution, ["images"], by=steward, now=timezone.now())
    assert institution.chosen_kinds() == set()


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("one_current_choice_per_kind", {"kind": "images"}),
        ("pathway_kind_known", {"kind": "photos"}),
        ("pathway_ends_after_choice", {"ended_at": timezone.now() - timedelta(days=9)}),
    ],
)
def test_the_database_refuses_an_impossible_choice(institution, steward, constraint, changes):
    pathways.choose(institution, ["weights", "images"], by=steward, now=timezone.now())
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        PathwayChoice.objects.filter(kind="weights").update(**changes)


# Two at once


def begin(name: str, person, barrier: threading.Barrier, found: list, **profile) -> None:
    try:
        barrier.wait(timeout=20)
        services.start_application(
            by=person, now=timezone.now(), role="steward", name=name, country="KE", kind="hospital", **profile
        )
        found.append("begun")
    except services.AlreadyHere as error:
        found.append(type(error).__name__)
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("names", "profile", "refusal"),
    [
        (("Lake Hospital", "Lake Eye Hospital"), {"ror_id": "04cpxjv19"}, "RorIdTaken"),
        (("Lake Hospital", "LAKE  hospital"), {}, "NameTaken"),
        (("眼科医院", "眼科医院"), {}, "NameTaken"),
    ],
)
def test_two_who_begin_the_same_institution_at_once(transactional_db, names, profile, refusal):
    people = [factories.user("One"), factories.user("Two")]
    barrier, found = threading.Barrier(2), []
    threads = [
        threading.Thread(target=begin, args=(name, person, barrier, found), kwargs=profile)
        for name, person in zip(names, people, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(found) == sorted(["begun", refusal])
    assert Institution.objects.count() == 1


def test_the_same_name_is_warned_of_and_may_be_another(sign_in, researcher, draft):
    client, url = sign_in(researcher), reverse("institutions:begin")
    data = {"name": "lake hospital", "country": "KE", "kind": "hospital", "role": "steward"}
    page = client.post(url, data)
    assert page.status_code == 422
    assert page.context["twin"] == draft
    assert "Ask to join it" in page.text
    assert client.post(url, data | {"is_another": "on"}).status_code == 302
    assert client.post(url, {**data, "name": "Lake Hospital", "country": "UG"}).status_code == 302  # elsewhere
    assert Institution.objects.count() == 3


def test_two_with_different_ror_ids_are_two(programme):
    factories.draft_institution("Central Hospital", ror_id="04cpxjv19")
    factories.draft_institution("Central Hospital", ror_id="02jx3x895")
    assert services.find_twin("Central Hospital", country="KE", ror_id="02y9nww90") is None
    with pytest.raises(services.NameTaken):
        factories.draft_institution("Central Hospital")


def test_areas_are_named_as_the_united_nations_do(sign_in, draft, lead):
    page = sign_in(lead).get(reverse("institutions:edit", args=[draft.slug]))
    assert "it says nothing of their status" in page.text
    save(sign_in(lead), draft, "country", country="EH")
    draft.refresh_from_db()
    assert draft.subregion == "015"


def test_a_member_under_review_is_not_editable_by_autosave(sign_in, programme):
    applied = factories.applied_institution("Hill Hospital")
    assert save(sign_in(factories.person_of(applied)), applied, "city", city="X").status_code == 403
    with pytest.raises(NotAllowed):
        services.change_profile(applied, by=factories.person_of(applied), city="X")
