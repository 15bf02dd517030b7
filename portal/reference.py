"""The API's description for programs (/api/v1/schema) and for people (/api/): both from the same document."""

import json
from typing import Any

import yaml
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from portal.openapi import document

METHODS = ["get", "post", "patch", "put", "delete"]


@require_GET
@login_not_required
def schema(request: HttpRequest) -> HttpResponse:
    """Send the OpenAPI description: JSON, or YAML with ?format=yaml or where the reader asks for it."""
    if request.GET.get("format") == "yaml" or "yaml" in request.headers.get("Accept", ""):
        text = yaml.safe_dump(_plain(), sort_keys=False, allow_unicode=True)
        return HttpResponse(text, content_type="application/yaml; charset=utf-8")
    return JsonResponse(document(), json_dumps_params={"ensure_ascii": False})


@require_GET
@login_not_required
def page(request: HttpRequest) -> HttpResponse:
    """Show every operation, by group, with what it takes and answers."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method in item:
                groups.setdefault(item[method]["tags"][0], []).append(_operation(path, method, item[method]))
    context = {"groups": groups, "problem": _fields({"$ref": "#/components/schemas/Problem"})}
    return render(request, "portal/api.html", context)


def _operation(path: str, method: str, described: dict[str, Any]) -> dict[str, Any]:
    body = _content(described.get("requestBody", {}))
    answers = [
        {"status": status, "text": row.get("description", ""), "fields": _fields(_content(row))}
        for status, row in sorted(described["responses"].items())
    ]
    return {
        "id": described["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": described["summary"],
        "description": described["description"],
        "scope": described.get("x-scope", ""),
        "parameters": [{**row, "type": _type(row["schema"])} for row in described.get("parameters", [])],
        "takes": _fields(body),
        "answers": [row for row in answers if int(row["status"]) < 400],
        "errors": [row for row in answers if int(row["status"]) >= 400],
        "curl": _curl(path, method, described, body),
    }


def _curl(path: str, method: str, described: dict[str, Any], body: dict[str, Any]) -> str:
    parts = ["curl"]
    if method != "get":
        parts.append(f"-X {method.upper()}")
    if "x-scope" in described:
        parts.append('-H "Authorization: Bearer $TOKEN"')
    if body:
        parts += ["-H 'Content-Type: application/json'", f"-d '{json.dumps(_example(body))}'"]
    return " ".join([*parts, f"'{settings.PORTAL_URL}{path}'"])


# Reading the document


def _plain() -> Any:
    """Return the document with every lazy text made plain."""
    return json.loads(json.dumps(document(), cls=DjangoJSONEncoder))


def _content(row: dict[str, Any]) -> dict[str, Any]:
    content = row.get("content", {})
    return next(iter(content.values()))["schema"] if content else {}


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with its reference followed."""
    if "allOf" in schema:
        return _resolved(schema["allOf"][0])
    if "$ref" not in schema:
        return schema
    return document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


def _fields(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return name, type, help and need of each field of an object (of its items, for a list)."""
    schema = _resolved(schema)
    if _json_type(schema)[0] == "array":
        return _fields(schema["items"])
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "type": _type(row),
            "text": row.get("description", "").replace("`", ""),
            "required": name in required,
        }
        for name, row in schema.get("properties", {}).items()
    ]


WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "object",
    "date-time": "time",
    "uri": "address",
    "email": "e-mail address",
}


def _json_type(schema: dict[str, Any]) -> tuple[str, bool]:
    """Return the type of a resolved schema, and if it may be null instead."""
    kinds = schema.get("type", "")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return next((kind for kind in kinds if kind != "null"), ""), "null" in kinds


def _type(schema: dict[str, Any]) -> str:
    """Return what a value is, in words."""
    resolved = _resolved(schema)
    if "oneOf" in resolved:
        return _type(resolved["oneOf"][0])
    if "enum" in resolved:
        return "one of " + ", ".join(str(value) for value in resolved["enum"] if value not in {"", None})
    kind, may_be_null = _json_type(resolved)
    words = WORDS.get(resolved.get("format", ""), WORDS.get(kind, "any value"))
    if kind == "array":
        words = f"list of {_type(resolved['items'])}"
    return f"{words}, or null" if may_be_null else words


def _example(schema: dict[str, Any]) -> Any:
    """Return a value of the right shape, for the example command."""
    resolved = _resolved(schema)
    if "oneOf" in resolved:
        return _example(resolved["oneOf"][0])
    if "enum" in resolved:
        return resolved["enum"][0]
    kind, _ = _json_type(resolved)
    if kind == "array":
        return [_example(resolved["items"])]
    if kind == "object":
        rows, required = resolved.get("properties", {}), resolved.get("required", [])
        return {name: _example(row) for name, row in rows.items() if not required or name in required}
    return {"integer": 1, "number": 1.0, "boolean": True}.get(kind, "…")
