"""Agreements over the API: the library, a case from its preparation to its end, standing, receipts."""

import hashlib

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from portal.agreements import services as agreements
from portal.agreements.models import Agreement, Signature, SigningRequest
from portal.institutions.models import Institution, Membership
from portal.signing import canonical
from tests import factories
from tests.integration.test_contributions_api import Kit
from tests.integration.test_institutions_api import can

Role = Membership.Role
TEXT = "# Annex\n\nFor {{ institution }}, led by {{ principal_investigator }}: {{ kinds }}, under {{ use_codes }}.\n"
VARIABLES = {"institution": "Moi Eye Clinic", "kinds": ["images"], "use_codes": ["HMB", "NCU"]}


@pytest.fixture
def annex(programme) -> Agreement:
    return factories.agreement(programme, slug="annex", text=TEXT, covers=["images"])


@pytest.fixture
def body(annex, institution, investigator) -> dict:
    wanted = {"institution": institution.slug, "programme": "retina", "agreement": "annex"}
    return {**wanted, "variables": {**VARIABLES, "principal_investigator": investigator.name}}


# The library


def test_anybody_reads_the_library(client, annex, now):
    changed = TEXT.replace("led", "well led")
    agreements.publish(annex, text=changed, change_note="Clearer.", is_material=False, by=None, now=now)
    listed = client.get("/api/v1/agreements").json()["results"]
    assert [(row["slug"], row["newest_version"]) for row in listed] == [("annex", 2), ("data-use-agreement", 1)]
    here = "/api/v1/agreements/retina/annex/versions"
    versions = client.get(here).json()["results"]
    assert [(row["version"], row["is_material"]) for row in versions] == [(2, False), (1, True)]
    shown = client.get(f"{here}/2").json()
    assert (shown["text"], shown["binds"]) == (changed, True)
    assert hashlib.sha256(shown["text"].encode()).hexdigest() == shown["sha256"] == shown["text_sha256"]
    assert shown["variables"] == ["institution", "principal_investigator", "kinds", "use_codes"]
    changes = client.get(f"{here}/2/changes/1").json()
    added = [piece["text"] for row in changes["paragraphs"] for piece in row["pieces"] if piece["kind"] == "added"]
    assert [text.strip() for text in added] == ["well"]
    assert [row["change_note"] for row in changes["notes"]] == ["Clearer."]
    for missing in ("3", "1/changes/2", "2/changes/9"):
        assert client.get(f"{here}/{missing}").status_code == 404


def test_a_translation_never_binds(client, annex, now):
    translations = {"fr": {"text": "# Annexe\n"}}
    agreements.publish(annex, text=TEXT, change_note="French.", translations=translations, by=None, now=now)
    shown = client.get("/api/v1/agreements/retina/annex/versions/2?language=fr").json()
    assert (shown["text"], shown["text_language"], shown["binds"], shown["language"]) == (
        "# Annexe\n",
        "fr",
        False,
        "en",
    )
    assert client.get("/api/v1/agreements/retina/annex/versions/2?language=sw").status_code == 404


# A case


def test_the_whole_way_of_a_case(body, institution, steward, investigator, signing_official):
    api, signatory = Kit(steward), factories.signatory()
    status, draft = api.post("agreements/cases", body)
    assert (status, draft["status"], draft["title"], draft["version"]) == (201, "draft", "Annex", 1)
    assert f"led by {investigator.name}" in draft["text"]
    assert hashlib.sha256(draft["text"].encode()).hexdigest() == draft["text_sha256"]
    assert can(draft) == {"send": True, "prepare": True, "withdraw": True}
    here = f"agreements/cases/{draft['id']}"
    assert api.post("agreements/cases", body)[1]["id"] == draft["id"]  # written anew, not twice
    sent = api.post(f"{here}/send")[1]
    assert (sent["status"], sent["standing"]["state"]) == ("signing", "signing")
    assert [(row["party"], row["is_next"], row["people"]) for row in sent["route"]] == [
        ("principal_investigator", True, [investigator.name]),
        ("signing_official", False, [signing_official.name]),
        ("consortium", False, [signatory.name]),
    ]
    assert api.post(f"{here}/send")[1]["status"] == "signing"
    factories.signed_case(SigningRequest.objects.get(pk=draft["id"]))
    active = Kit(signing_official).get(here)[1]
    assert (active["status"], active["standing"]["in_force"], can(active)) == ("active", True, {"terminate": True})
    assert [row["signed_by"] for row in active["route"]][0] == investigator.name
    effects = Kit(signing_official).get(f"{here}/terminate")[1]
    assert (effects["title"], effects["effects"][0]["items"][0]["name"]) == ("Annex", institution.name)
    end = {"reason": "The study is over.", "title": "Another"}
    assert list(Kit(signing_official).post(f"{here}/terminate", end)[1]["errors"]) == ["title"]
    ended = Kit(signing_official).post(f"{here}/terminate", {**end, "title": "annex"})[1]
    assert (ended["status"], ended["reason"]) == ("terminated", "The study is over.")
    assert can(api.get(here)[1]) == {"renew": True}
    assert api.post("agreements/cases", body)[1]["renews"] == draft["id"]


@pytest.mark.parametrize(
    ("changed", "field", "inner"),
    [
        ({"shoe_size": "9"}, "variables", "shoe_size"),
        ({"kinds": ["weights"]}, "variables", "kinds"),
        ({"use_codes": ["NRES", "NCU"]}, "variables", "use_codes"),
        ({"principal_investigator": "Somebody Else"}, "variables", "principal_investigator"),
        ({"institution": ""}, "variables", "institution"),
    ],
)
def test_wrong_particulars_are_named(body, steward, changed, field, inner):
    status, problem = Kit(steward).post("agreements/cases", {**body, "variables": {**body["variables"], **changed}})
    assert (status, list(problem["errors"][field])) == (400, [inner])
    assert not SigningRequest.objects.filter(agreement__slug="annex").exists()


def test_a_further_hospital_is_named_where_the_text_has_a_place_for_it(programme, institution, steward):
    group = factories.agreement(programme, slug="group", text="# Group\n\nAlso {{ covered }}.\n", covers=["images"])
    partner = factories.admitted_institution("Partner Clinic")
    body = {"institution": institution.slug, "programme": "retina", "agreement": group.slug}
    api = Kit(steward)
    assert list(api.post("agreements/cases", {**body, "covered": ["nowhere"]})[1]["errors"]) == ["covered"]
    wrong = {**body, "agreement": "data-use-agreement", "covered": [partner.slug]}
    assert list(api.post("agreements/cases", wrong)[1]["errors"]) == ["covered"]
    draft = api.post("agreements/cases", {**body, "covered": [partner.slug]})[1]
    send = next(row for row in draft["available_actions"] if row["name"] == "send")
    refused = api.post(f"agreements/cases/{draft['id']}/send")
    assert (send["allowed"], send["code"], refused[0]) == (False, refused[1]["code"], 409)
    cover = Kit(factories.person_of(partner)).get(f"agreements/cases/{draft['id']}")[1]["covered"][0]
    assert (cover["institution"], can(cover)) == (partner.slug, {"confirm": True})
    path = cover["available_actions"][0]["url"].removeprefix("/api/v1/")
    assert api.post(path)[0] == 403
    assert Kit(factories.person_of(partner)).post(path)[1]["confirmed_at"] is not None
    assert api.post(f"agreements/cases/{draft['id']}/send")[1]["status"] == "signing"


def test_who_prepares_sends_declines_and_withdraws(body, institution, member, outsider, operator, signing_official):
    assert Kit(member).post("agreements/cases", body)[0] == 403
    assert Kit(outsider).post("agreements/cases", body)[0] == 403
    case = factories.sent_case(institution, Agreement.objects.get(slug="annex"))
    here = f"agreements/cases/{case.pk}"
    for person, seen in ((member, 200), (operator, 200), (outsider, 404)):
        assert Kit(person).get(here)[0] == seen
        for step in ("send", "decline", "withdraw", "terminate"):
            expected = 404 if seen == 404 else 403
            assert Kit(person).post(f"{here}/{step}", {"reason": "No.", "title": "Annex"})[0] == expected, step
    assert Kit(outsider).get(f"{here}/terminate")[0] == 404
    assert list(Kit(signing_official).post(f"{here}/decline", {})[1]["errors"]) == ["reason"]
    declined = Kit(signing_official).post(f"{here}/decline", {"reason": "Not our law."})[1]
    assert (declined["status"], declined["reason"]) == ("declined", "Not our law.")


def test_a_draft_is_the_institution_s_own(annex, institution, operator, member, outsider):
    case = factories.draft_case(institution, annex)
    answers = {person: Kit(person).get(f"agreements/cases/{case.pk}")[0] for person in (operator, member, outsider)}
    assert answers == {operator: 404, member: 200, outsider: 404}


@pytest.mark.parametrize(("sends", "status"), [(False, 404), (True, 200)])
def test_what_was_taken_back_before_it_was_sent_stays_the_institution_s_own(
    annex, institution, operator, steward, sends, status
):
    case = (factories.sent_case if sends else factories.draft_case)(institution, annex)
    agreements.withdraw(case, by=steward, now=timezone.now())
    answers = [Kit(person).get(f"agreements/cases/{case.pk}")[0] for person in (steward, operator)]
    assert answers == [200, status]


def test_cases_are_listed_by_keyset_and_narrowed(institution, annex, outsider, operator, monkeypatch):
    monkeypatch.setattr("portal.paging.PAGE_SIZE", 2)
    case = factories.sent_case(institution, annex)
    api = Kit(operator)
    first = api.get("agreements/cases")[1]
    second = api.get(first["next"].partition("/api/v1/")[2])[1]
    assert ([row["id"] for row in first["results"]][0], second["next"]) == (case.pk, None)
    assert len(first["results"] + second["results"]) == SigningRequest.objects.count() == 3
    narrowed = api.get(f"agreements/cases?institution={institution.slug}&status=signing")[1]["results"]
    assert [row["id"] for row in narrowed] == [case.pk]
    assert api.get("agreements/cases?status=lost")[0] == 400


# Signing needs a person


def test_nobody_signs_over_the_api(institution, annex, investigator, sign_in):
    case = factories.sent_case(institution, annex)
    before = Signature.objects.count()
    for client in (Kit(investigator).client, sign_in(investigator)):
        for pk in (case.pk, 999_999_999):
            response = client.post(f"/api/v1/agreements/cases/{pk}/sign", "{}", content_type="application/json")
            problem = response.json()
            assert (response.status_code, problem["code"]) == (403, "signing_needs_a_person")
            assert problem["next_url"] == f"/agreements/cases/{pk}/sign/"
    assert Signature.objects.count() == before
    assert sign_in(investigator).get(f"/agreements/cases/{case.pk}/sign/").status_code == 200


# Standing and receipts


def test_one_question_is_answered_as_everywhere(institution, annex, steward, researcher, operator):
    path = f"institutions/{institution.slug}/may"
    assert Kit(steward).get(f"{path}?action=contribute_weights&programme=retina")[1] == {
        "allowed": True, "code": "", "reason": "", "next_url": ""
    }  # fmt: skip
    refused = Kit(operator).get(f"{path}?action=contribute_images")[1]
    assert (refused["allowed"], refused["code"]) == (False, "agreement_required")
    assert refused["next_url"] == f"/agreements/sign/{institution.slug}/retina/annex/"
    assert Kit(steward).get(f"{path}?action=dance")[0] == 400
    assert Kit(steward).get(path)[0] == 400
    assert Kit(steward).get(f"{path}?action=download&programme=nothing")[0] == 404
    assert Kit(researcher).get(f"{path}?action=download")[0] == 403


def test_a_receipt_is_public_and_names_nobody(client, institution, annex, investigator):
    case = institution.signing_requests.get()
    receipt = client.get(f"/api/v1/agreements/receipts/{case.receipt_code}").json()
    assert (receipt["schema"], receipt["form"], receipt["state"]) == ("consortium-receipt/1", "public", "active")
    page = client.get(f"/agreements/receipts/{case.receipt_code}.json").json()
    volatile = {"issued_at", "signature"}
    assert {k: v for k, v in page.items() if k not in volatile} == {
        k: v for k, v in receipt.items() if k not in volatile
    }
    assert investigator.name.encode() not in canonical(receipt)
    waiting = factories.sent_case(institution, annex)
    assert client.get(f"/api/v1/agreements/receipts/{waiting.receipt_code}").status_code == 404


def test_an_anonymous_reader_sees_no_case(institution):
    assert Client().get("/api/v1/agreements/cases").status_code == 401


def test_the_list_costs_the_same_with_ten_cases_and_with_a_thousand(institution, annex, operator):
    api, case = Kit(operator), factories.sent_case(institution, annex)
    party = Institution.objects.filter(pk=institution.pk).values().get()
    template = SigningRequest.objects.filter(pk=case.pk).values().get()
    for row, names in (
        (party, ["id", "slug", "ror_id"]),
        (template, ["id", "receipt_code", "institution_id", "status"]),
    ):
        for name in names:
            row.pop(name)

    def add(number: int) -> None:
        begin = Institution.objects.count()
        rows = [Institution(**party, slug=f"copy-{n}") for n in range(begin, begin + number)]
        SigningRequest.objects.bulk_create(
            SigningRequest(**template, institution=row) for row in Institution.objects.bulk_create(rows)
        )
        SigningRequest.objects.filter(status="draft").update(status="signing")

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            status, document = api.get("agreements/cases")
        assert (status, len(document["results"]) >= 10) == (200, True)
        return len(queries)

    api.get("me")  # the first use of the token is noted
    add(10)
    few = cost()
    add(990)
    assert (cost(), SigningRequest.objects.count() >= 1000) == (few, True)
