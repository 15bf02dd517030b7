"""Contributions over the API: the kit's whole way, who sees what, what an error says, how many queries."""

import json
from datetime import datetime

import pytest
from django.test import Client
from django.utils import timezone

from contributions import services
from contributions.lifecycle import Status
from contributions.models import Contribution
from portal.accounts import services as accounts
from portal.agreements import services as agreements
from portal.programmes.models import BaseModel
from tests import contributing, factories
from tests.contributing import CARD, sha256_base64, sha256_hex

WEIGHTS = b"weights of the eye clinic"


@pytest.fixture
def base(programme):
    return contributing.registered_base(programme)


@pytest.fixture
def draft(institution, base, steward) -> Contribution:
    return contributing.draft(institution, base, by=steward)


class Kit:
    """Speaks the API with a token, as the kit does."""

    def __init__(self, person) -> None:
        self.client = Client(
            headers={"Authorization": f"Bearer {accounts.create_token(person, name='kit', now=timezone.now())}"}
        )

    def call(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        response = self.client.generic(
            method, f"/api/v1/{path}", json.dumps(body or {}), content_type="application/json"
        )
        return response.status_code, response.json() if response.content else None

    def get(self, path: str):
        return self.call("GET", path)

    def post(self, path: str, body: object = None):
        return self.call("POST", path, body)


@pytest.fixture
def kit(steward) -> Kit:
    return Kit(steward)


def can(document) -> list[str]:
    return [row["name"] for row in document["available_actions"] if row["allowed"]]


def announcement(content: bytes = WEIGHTS, name: str = "weights.safetensors") -> dict[str, object]:
    return {"name": name, "size_bytes": len(content), "parts_sha256": contributing.parts_sha256(content)}


def test_the_card_says_which_of_the_bases_of_one_name(kit, institution, base):
    other = factories.programme("skin")
    newest = contributing.registered_base(other)
    BaseModel.objects.filter(pk=newest.pk).update(sha256="0" * 64)
    wanted = {"institution": institution.slug, "kind": "weights", "base_model": "fundus-64", "title": "Ours"}
    for named, meant in ((base.sha256, base), ("0" * 64, newest), ("f" * 64, newest), (None, newest)):
        card = {**CARD, "base": {"slug": "fundus-64", "sha256": named}}
        status, draft = kit.post("contributions", {**wanted, "training_card": card})
        assert (status, Contribution.objects.get(pk=draft["id"]).base_model) == (201, meant)


def test_the_whole_way_of_a_kit(kit, institution, base):
    wanted = {"institution": institution.slug, "kind": "weights", "base_model": "fundus-64", "title": "Our generator"}
    status, draft = kit.post("contributions", {**wanted, "training_card": CARD})
    assert (status, draft["status"], draft["institution"], draft["base_model"], can(draft)) == (
        201,
        "draft",
        institution.slug,
        "fundus-64",
        ["change", "withdraw"],
    )
    blocked = next(row for row in draft["available_actions"] if row["name"] == "submit")
    assert (blocked["reason"], blocked["url"], blocked["method"]) == (
        "The weights have not arrived whole. Upload them first.",
        f"/api/v1/contributions/{draft['id']}/submit",
        "post",
    )
    here = f"contributions/{draft['id']}"
    assert kit.call("PATCH", here, {"title": "Our better generator"})[1]["title"] == "Our better generator"
    status, file = kit.post(f"{here}/files", announcement())
    assert (status, file["state"], file["part_count"], file["parts_uploaded"]) == (201, "uploading", 1, [])
    assert kit.post(f"{here}/files", announcement()) == (200, file)
    status, signed = kit.post(
        f"{here}/files/{file['id']}/parts", {"parts": [{"number": 1, "sha256": sha256_base64(WEIGHTS)}]}
    )
    assert (status, signed["expires_in_seconds"], len(signed["urls"])) == (200, 900, 1)
    assert contributing.put(signed["urls"][0], WEIGHTS).status == 200
    assert kit.get(f"{here}/files/{file['id']}")[1]["parts_uploaded"] == [1]
    whole = {"sha256": sha256_hex(WEIGHTS)}
    uploaded = {**file, **whole, "state": "uploaded", "parts_uploaded": [1]}
    assert kit.post(f"{here}/files/{file['id']}/complete", whole) == (200, uploaded)
    assert kit.post(f"{here}/files/{file['id']}/complete", {"sha256": "0" * 64}) == (200, uploaded)  # the first stands
    status, submitted = kit.post(f"{here}/submit")
    assert (status, submitted["status"], can(submitted)) == (200, "submitted", ["withdraw"])
    assert kit.get(here)[1]["files"] == [{key: value for key, value in uploaded.items() if key != "parts_uploaded"}]
    assert kit.post(f"{here}/withdraw", {"reason": "A patient took consent back."})[1]["status"] == "withdrawn"


def test_a_file_is_taken_out_of_a_draft(kit, draft):
    _, file = kit.post(f"contributions/{draft.pk}/files", announcement())
    assert kit.call("DELETE", f"contributions/{draft.pk}/files/{file['id']}") == (204, None)
    assert kit.get(f"contributions/{draft.pk}")[1]["files"] == []


# Errors say what to do


def test_submission_without_agreement_says_where_to_sign(kit, draft, institution):
    services.add_file(draft, **announcement(), by=draft.created_by, now=timezone.now())
    case = institution.signing_requests.get()
    agreements.terminate(case, by=factories.person_of(institution), reason="The trial ended.", now=timezone.now())
    status, problem = kit.post(f"contributions/{draft.pk}/submit")
    assert (status, problem["code"], problem["next_url"]) == (
        403,
        "agreement_terminated",
        f"/agreements/sign/{institution.slug}/retina/data-use-agreement/",
    )


@pytest.mark.parametrize(
    ("changed", "code", "field"),
    [
        ({"institution": "andes-retina"}, "invalid", "institution"),
        ({"institution": "no-such"}, "invalid", "institution"),
        ({"base_model": "no-such"}, "invalid", "base_model"),
        ({"kind": "recipes"}, "invalid", "kind"),
        ({"title": ""}, "invalid", "title"),
        ({"training_card": {"patients": 3}}, "card_refused", None),
        ({"training_card": ["no", "object"]}, "card_refused", None),
    ],
)
def test_a_wrong_draft_is_a_problem_document(kit, institution, base, outsider, changed, code, field):
    wanted = {"institution": institution.slug, "kind": "weights", "base_model": "fundus-64", "title": "T"}
    status, problem = kit.post("contributions", {**wanted, **changed})
    assert (status, problem["status"], problem["code"], list(problem.get("errors", {}))) == (
        400,
        400,
        code,
        [field] if field else [],
    )
    assert Contribution.objects.count() == 0


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("submit", {}, 409, "files_incomplete"),
        ("withdraw", {}, 400, "invalid"),
        ("files", {"name": "a/b", "size_bytes": 1, "parts_sha256": "a" * 64}, 400, "file_refused"),
        ("files", {"name": "a", "size_bytes": -1, "parts_sha256": "a" * 64}, 400, "invalid"),
        ("files", {"name": "a", "size_bytes": 1, "parts_sha256": "short"}, 400, "invalid"),
        ("files/999999/complete", {}, 404, "not_found"),
    ],
)
def test_a_wrong_request_is_a_problem_document(kit, draft, path, body, status, code):
    answered, problem = kit.post(f"contributions/{draft.pk}/{path}", body)
    assert (answered, problem["code"]) == (status, code)


def test_a_kit_from_before_parts_were_hashed_is_told_to_be_replaced(kit, draft):
    status, problem = kit.post(f"contributions/{draft.pk}/files", {"name": "a", "size_bytes": 1, "sha256": "a" * 64})
    [sentence] = problem["errors"]["parts_sha256"]
    assert (status, list(problem["errors"])) == (400, ["parts_sha256"])
    assert sentence.endswith("A kit older than 0.5.0 does not send it: install the newest kit.")


def test_missing_parts_are_listed(kit, draft):
    _, file = kit.post(f"contributions/{draft.pk}/files", announcement())
    here = f"contributions/{draft.pk}/files/{file['id']}/complete"
    assert [kit.post(here, body)[0] for body in ({}, {"sha256": ""}, {"sha256": "short"})] == [400, 400, 400]
    status, problem = kit.post(here, {"sha256": "0" * 64})
    assert (status, problem["code"], problem["detail"]) == (
        409,
        "parts_missing",
        "1 of 1 parts of weights.safetensors have not arrived: 1. Send these parts, then complete the file again.",
    )


# Who sees what


def test_nobody_signed_in_sees_nothing(client, draft):
    response = client.get("/api/v1/contributions")
    assert (response.status_code, response.json()["code"]) == (401, "not_signed_in")


def test_a_stranger_finds_nothing(draft, outsider, researcher):
    file = services.add_file(draft, **announcement(), by=draft.created_by, now=timezone.now())
    for stranger in (Kit(outsider), Kit(researcher)):
        assert stranger.get("contributions")[1]["results"] == []
        for method, path in [
            ("GET", f"contributions/{draft.pk}"),
            ("PATCH", f"contributions/{draft.pk}"),
            ("POST", f"contributions/{draft.pk}/submit"),
            ("POST", f"contributions/{draft.pk}/withdraw"),
            ("POST", f"contributions/{draft.pk}/files"),
            ("GET", f"contributions/{draft.pk}/files/{file.pk}"),
            ("DELETE", f"contributions/{draft.pk}/files/{file.pk}"),
            ("POST", f"contributions/{draft.pk}/files/{file.pk}/parts"),
            ("POST", f"contributions/{draft.pk}/files/{file.pk}/complete"),
        ]:
            assert stranger.call(method, path)[0] == 404


def test_a_file_belongs_to_its_contribution(kit, draft, institution, base, steward):
    other = contributing.draft(institution, base, by=steward)
    file = services.add_file(other, **announcement(), by=steward, now=timezone.now())
    assert kit.get(f"contributions/{draft.pk}/files/{file.pk}")[0] == 404


def test_a_member_without_the_role_sees_and_does_nothing(draft, member):
    reader = Kit(member)
    assert reader.get(f"contributions/{draft.pk}")[1]["available_actions"] == []
    for method, path, body in [
        ("PATCH", f"contributions/{draft.pk}", {"title": "Mine"}),
        ("POST", f"contributions/{draft.pk}/submit", {}),
        ("POST", f"contributions/{draft.pk}/withdraw", {"reason": "No."}),
        ("POST", f"contributions/{draft.pk}/files", announcement()),
    ]:
        status, problem = reader.call(method, path, body)
        assert (status, problem["code"]) == (403, "not_allowed")


@pytest.mark.parametrize(
    ("status", "seen_by"),
    [("draft", []), ("submitted", ["operator"]), ("review", ["board_member", "operator"])],
)
def test_the_consortium_sees_what_has_come_to_it(institution, base, steward, board_member, operator, status, seen_by):
    contribution = contributing.at_status(status, institution, base, by=steward)
    people = {"board_member": board_member, "operator": operator}
    found = [role for role in people if Kit(people[role]).get(f"contributions/{contribution.pk}")[0] == 200]
    assert found == seen_by


def test_a_session_needs_the_csrf_token(draft, steward):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(steward, backend="django.contrib.auth.backends.ModelBackend")
    path = f"/api/v1/contributions/{draft.pk}/files"
    response = browser.post(path, announcement(), content_type="application/json")
    assert (response.status_code, draft.files.count()) == (403, 0)
    browser.get("/contributions/new/")
    token = browser.cookies["csrftoken"].value
    headers = {"X-CSRFToken": token}
    assert browser.post(path, announcement(), content_type="application/json", headers=headers).status_code == 201


@pytest.mark.parametrize("odd", ["\0", "\ud800"])
@pytest.mark.parametrize("field", ["institution", "base_model", "kind", "title", "training_card", "new\ud800"])
def test_what_is_no_text_is_refused_and_no_fault_of_ours(kit, institution, base, field, odd):
    wanted = {"institution": institution.slug, "kind": "weights", "base_model": "fundus-64", "title": "T"}
    status, problem = kit.post("contributions", {**wanted, field: {"a": odd} if field == "training_card" else odd})
    assert (status, problem["code"]) == (400, "parse_error")
    assert Contribution.objects.count() == 0


def test_a_field_that_does_not_exist_is_named_and_nothing_changes(kit, draft):
    status, problem = kit.call("PATCH", f"contributions/{draft.pk}", {"title": "Better", "base_model": "fundus-64"})
    assert (status, problem["code"]) == (400, "invalid")
    told = ["There is no such name here. It is one of: embargo_until, title, training_card."]
    assert problem["errors"] == {"base_model": told}
    title = draft.title
    draft.refresh_from_db()
    assert draft.title == title


@pytest.mark.parametrize(
    ("query", "field"),
    [("status=approved", "status"), ("limit=10", "limit"), ("before=abc", "before"), ("before=-1", "before")],
)
def test_a_filter_that_the_list_does_not_have_is_named(kit, query, field):
    status, problem = kit.call("GET", f"contributions?{query}")
    assert (status, problem["code"], list(problem["errors"])) == (400, "invalid", [field])


@pytest.mark.parametrize("levels", [40, 900, 5000])
def test_json_that_is_nested_too_deeply_is_refused(kit, draft, levels):
    body = '{"training_card": ' + '{"a":' * levels + "1" + "}" * levels + "}"
    response = kit.client.patch(f"/api/v1/contributions/{draft.pk}", body, content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (400, "parse_error")
    assert "more than 32 levels deep" in response.json()["detail"]


def test_what_stopped_is_told(kit, institution, base, steward):
    contribution = contributing.at_status(Status.SUBMITTED, institution, base, by=steward)
    assert kit.get(f"contributions/{contribution.pk}")[1]["stalled_at"] is None
    contribution = services.stall(contribution.pk, now=timezone.now())
    told = kit.get(f"contributions/{contribution.pk}")[1]["stalled_at"]
    assert datetime.fromisoformat(told) == contribution.stalled_at


# The list


@pytest.mark.parametrize("count", [1, 3])
def test_the_list_asks_the_database_as_often_for_three_as_for_one(
    kit, institution, base, steward, django_assert_num_queries, count
):
    for number in range(count):
        contributing.draft(institution, base, by=steward, title=f"Generator {number}")
    with django_assert_num_queries(6):  # one of them: what the person owes (portal/accounts/gate.py)
        _, page = kit.get("contributions")
    assert [row["title"] for row in page["results"]] == [f"Generator {n}" for n in reversed(range(count))]


def test_the_list_goes_on_where_the_page_ends(kit, institution, base, steward, monkeypatch):
    monkeypatch.setattr("portal.paging.PAGE_SIZE", 2)
    for number in range(3):
        contributing.draft(institution, base, by=steward, title=str(number))
    _, first = kit.get("contributions")
    _, second = kit.get(first["next"].partition("/api/v1/")[2])
    titles = [[row["title"] for row in page["results"]] for page in (first, second)]
    assert (titles, second["next"]) == ([["2", "1"], ["0"]], None)


def test_checks_are_those_of_the_newest_attempt(kit, institution, base, steward):
    contribution = contributing.at_status(Status.VALIDATING, institution, base, by=steward)
    result = {"name": "transfer", "sentence": "All bytes.", "fix": "", "evidence": {"n": 1}, "duration_seconds": 0.1}
    services.record_check(contribution, run_id=1, attempt=1, result={"number": 0, "verdict": "fail", **result})
    services.record_check(contribution, run_id=1, attempt=2, result={"number": 0, "verdict": "pass", **result})
    assert kit.get(f"contributions/{contribution.pk}")[1]["checks"] == [{"number": 0, "verdict": "pass", **result}]
