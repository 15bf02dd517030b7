"""The API as a whole: its description, its errors, its lists."""

import json
import re

import jsonschema
import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.validation import validate_schema
from rest_framework.views import APIView

from portal.accounts import services as accounts
from portal.errors import PROBLEM_JSON
from portal.openapi import document
from tests import factories, publishing


@pytest.fixture(scope="module")
def described() -> dict:
    GENERATOR_STATS.reset()
    document.cache_clear()
    return json.loads(json.dumps(document(), default=str))


def bearer(person) -> Client:
    token = accounts.create_token(person, name="test", now=timezone.now())
    return Client(headers={"Authorization": f"Bearer {token}"})


# The description


def test_the_description_is_made_without_a_warning_and_is_valid(described):
    assert (dict(GENERATOR_STATS._warn_cache), dict(GENERATOR_STATS._error_cache)) == ({}, {})
    validate_schema(described)


def api_operations(resolver: URLResolver, prefix: str = "/") -> set[tuple[str, str]]:
    """Return (method, path) of every view of the REST framework in the URL table."""
    found = set()
    for entry in resolver.url_patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            found |= api_operations(entry, path)
        elif isinstance(entry, URLPattern):
            view = getattr(entry.callback, "cls", None)
            if view is not None and issubclass(view, APIView):
                path = re.sub(r"<\w+:(\w+)>", r"{\1}", path)
                found |= {
                    (method, path) for method in ("get", "post", "put", "patch", "delete") if hasattr(view, method)
                }
    return found


def test_every_operation_is_described(described):
    listed = {(method, path) for path, item in described["paths"].items() for method in item}
    assert {(m, re.sub(r"\{\w+\}", "{}", p)) for m, p in listed} == {
        (m, re.sub(r"\{\w+\}", "{}", p)) for m, p in api_operations(get_resolver())
    }


def test_every_operation_says_what_it_does_takes_answers_and_refuses(described):
    for path, item in described["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            assert operation["summary"].endswith("."), where
            assert len(operation["tags"]) == 1, where
            is_refused = operation["operationId"] == "sign_case"  # always: a program cannot sign
            assert any(status < "400" for status in operation["responses"]) != is_refused, where
            if "x-scope" in operation:
                assert operation["responses"]["401"]["content"].keys() == {PROBLEM_JSON}, where
            if "{" in path:
                assert "404" in operation["responses"], where


def test_operation_names_are_unique(described):
    names = [operation["operationId"] for item in described["paths"].values() for operation in item.values()]
    assert sorted(names) == sorted(set(names))


def test_the_description_is_public_as_json_and_yaml(client):
    response = client.get("/api/v1/schema")
    assert response.json()["openapi"] == "3.1.0"
    text = client.get("/api/v1/schema?format=yaml")
    assert text.headers["Content-Type"] == "application/yaml; charset=utf-8"
    assert text.text.startswith("openapi: 3.1.0\n")


def test_the_reference_shows_every_operation(client, described):
    page = client.get("/api/").text
    names = [operation["operationId"] for item in described["paths"].values() for operation in item.values()]
    assert [name for name in names if f'id="{name}"' not in page] == []
    assert "Scope: contribute" in page
    assert "curl -X POST" in page


def conforms(described: dict, method: str, path: str, response) -> None:
    """Fail unless the answer is what the description promises."""
    answer = described["paths"][path][method]["responses"][str(response.status_code)]
    media_type, content = next(iter(answer["content"].items()))
    assert response.headers["Content-Type"].partition(";")[0] == media_type
    schema = {**content["schema"], "components": described["components"]}
    jsonschema.validate(response.json(), schema, cls=jsonschema.Draft202012Validator)


def test_answers_are_what_the_description_promises(described, institution, steward, board, programme, operator):
    reviewed = factories.reviewed_contribution(institution)
    draft = factories.draft_contribution(institution)
    file = factories.upload(draft, b"some other bytes")
    publishing.released_model(operator)
    client = bearer(steward)
    for template, arguments in {
        "/api/v1/me": {},
        "/api/v1/programmes": {},
        "/api/v1/programmes/{slug}": {"slug": "retina"},
        "/api/v1/base-models": {},
        "/api/v1/models": {},
        "/api/v1/contributions": {},
        "/api/v1/contributions/{id}": {"id": reviewed.pk},
        "/api/v1/contributions/{id}/files/{file_pk}": {"id": draft.pk, "file_pk": file.pk},
    }.items():
        response = client.get(template.format(**arguments))
        assert response.status_code == 200, template
        conforms(described, "get", template, response)
    wrong = client.post("/api/v1/contributions", "{}", content_type="application/json")
    conforms(described, "post", "/api/v1/contributions", wrong)
    conforms(described, "get", "/api/v1/contributions/{id}", client.get("/api/v1/contributions/999999"))
    conforms(described, "get", "/api/v1/me", Client().get("/api/v1/me"))


# Errors


@pytest.mark.parametrize("accept", ["*/*", "text/html,application/xhtml+xml"])
@pytest.mark.parametrize(
    ("method", "path", "body", "content_type", "status", "code"),
    [
        ("POST", "contributions", "{", "application/json", 400, "parse_error"),
        ("POST", "contributions", "{}", "application/json", 400, "invalid"),
        ("POST", "contributions", "x", "text/plain", 415, "unsupported_media_type"),
        ("PUT", "contributions", "{}", "application/json", 405, "method_not_allowed"),
        ("GET", "contributions/999999", "", "application/json", 404, "not_found"),
        ("GET", f"contributions/{10**30}", "", "application/json", 404, "not_found"),
        ("GET", "nothing/here", "", "application/json", 404, "not_found"),
    ],
)
def test_every_error_is_a_problem_document(steward, method, path, body, content_type, status, code, accept):
    response = bearer(steward).generic(
        method, f"/api/v1/{path}", body, content_type=content_type, headers={"accept": accept}
    )
    assert (response.status_code, response.headers["Content-Type"]) == (status, PROBLEM_JSON)
    document = response.json()
    assert (document["status"], document["code"]) == (status, code)
    assert {"type", "title", "detail", "next_url"} <= set(document)


@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_who_is_not_signed_in_is_told_where_to_get_a_token(client, db, accept):
    response = client.get("/api/v1/me", headers={"accept": accept})
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert (response.json()["code"], response.json()["next_url"]) == ("not_signed_in", "/account/tokens/")
    wrong = client.get("/api/v1/me", headers={"accept": accept, "authorization": "Bearer grf_wrong"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "not_signed_in")


def test_a_refusal_is_a_problem_document(institution, member):
    draft = factories.draft_contribution(institution)
    response = bearer(member).post(f"/api/v1/contributions/{draft.pk}/submit")
    assert (response.status_code, response.json()["code"]) == (403, "not_allowed")


def test_too_many_requests_are_a_problem_document(client, db, settings):
    cache.clear()
    answers = [
        client.post("/api/v1/device", {"client_name": "kit"}, content_type="application/json") for _ in range(31)
    ]
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (429, "throttled")
    cache.clear()


def test_a_fault_of_ours_is_a_problem_document(steward, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("a secret of the inside")

    client = bearer(steward)
    client.raise_request_exception = False
    monkeypatch.setattr("contributions.api.page", fail)
    for accept in ("*/*", "text/html"):
        response = client.get("/api/v1/contributions", headers={"accept": accept})
        assert (response.status_code, response.headers["Content-Type"]) == (500, PROBLEM_JSON)
        assert response.json()["code"] == "server_error"
        assert "secret" not in response.text


def test_a_page_outside_the_api_stays_a_page(client, db):
    response = client.get("/nothing/", headers={"accept": "text/html"})
    assert response.headers["Content-Type"].startswith("text/html")
