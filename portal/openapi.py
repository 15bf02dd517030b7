"""The OpenAPI description of the API, made from the code that answers (drf-spectacular)."""

import functools
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from django.http import QueryDict
from drf_spectacular import openapi
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import permissions, serializers

from portal.actions import Action
from portal.errors import PROBLEM_JSON
from portal.scopes import scope_of

View = TypeVar("View", bound=Callable[..., Any])
Query = OpenApiParameter
PROBLEMS = {
    "400": "The request is not right: `errors` names the fields, `detail` the reason.",
    "401": "No token, or one that is unknown, expired or revoked.",
    "403": "You may see this and may not do it.",
    "404": "There is no such object, or you may not see it.",
    "409": "Not possible as things stand now: `code` and `detail` say why, `next_url` where to settle it.",
    "415": "The body is not JSON.",
    "429": "Too many requests from one address. Wait, then ask again.",
}


class ProblemSerializer(serializers.Serializer):
    """What every error is: a problem document (RFC 9457)."""

    type = serializers.CharField(help_text="Always about:blank: `code` tells the kind.")
    title = serializers.CharField(help_text="The phrase of the status.")
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="For programs: stable, in snake_case.")
    detail = serializers.CharField(help_text="For people: what happened, to what, and what to do next.")
    next_url = serializers.CharField(allow_blank=True, help_text="The page where it can be settled; may be empty.")
    errors = serializers.DictField(  # type: ignore[assignment]  # only for the description: nothing is validated
        required=False, help_text="With 400: messages by field."
    )


class ActionSerializer(serializers.Serializer):
    """Something that you can do with the object, or why not now."""

    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field named like an attribute of fields
    allowed = serializers.BooleanField()
    reason = serializers.CharField(allow_blank=True, help_text="Why it is not allowed now.")
    code = serializers.CharField(
        allow_blank=True, help_text="For programs: the code of the error that doing it now would give."
    )
    url = serializers.CharField(allow_blank=True, help_text="Where to do it.")
    method = serializers.CharField()


def offered(actions: Iterable[Action], addresses: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """Return actions as JSON: where the API can do one, with its address there; else with that of its page."""
    rows = [dict(row) for row in ActionSerializer(actions, many=True).data]
    for row in rows:
        row["url"], row["method"] = addresses.get(row["name"], (row["url"], row["method"]))
    return rows


def valid(form: serializers.BaseSerializer) -> dict[str, Any]:
    """Return what was given, checked; a problem document names what is wrong."""
    form.is_valid(raise_exception=True)
    if isinstance(form, serializers.Serializer) and not isinstance(form.initial_data, QueryDict):  # page() has that
        require_known(form.initial_data, form.fields)
    return form.validated_data


def require_known(given: Iterable[str], known: Collection[str]) -> None:
    """Raise ValidationError for names that mean nothing here: what is misspelt would be left undone without a word."""
    if unknown := [name for name in given if name not in known]:
        sentence = f"There is no such name here. It is one of: {', '.join(sorted(known))}."
        raise serializers.ValidationError({name[:100]: [sentence] for name in unknown[:20]})


@functools.cache
def page_of(serializer: type[serializers.BaseSerializer]) -> type[serializers.Serializer]:
    """Return the serializer of a page of a list: `results`, and the address of the next page."""
    name = serializer.__name__.removesuffix("Serializer")
    following = serializers.URLField(allow_null=True, help_text="The next page; null on the last.")
    return type(
        f"{name}PageSerializer", (serializers.Serializer,), {"results": serializer(many=True), "next": following}
    )


def operation(
    method: str,
    name: str,
    summary: str,
    *,
    group: str,
    takes: type[serializers.BaseSerializer] | None = None,
    answers: Any = None,
    status: int | None = 200,
    also: dict[int, Any] | None = None,
    query: Iterable[OpenApiParameter | type[serializers.Serializer]] = (),
    description: str = "",
) -> Callable[[View], View]:
    """
    Describe one operation of an API view: above `@api_view`, once for each method.

    Args:
        answers: serializer (or a list of it with `many=True`) of the answer; None: an answer without a body.
        status: of that answer; None: it is always refused.
        also: further answers that are no errors, by status.
    """
    return extend_schema(
        methods=[method],
        operation_id=name,
        summary=summary,
        description=description or summary,
        tags=[group],
        request=takes,
        responses=_answers(status, answers) | (also or {}),
        parameters=[*query],
    )


def _answers(status: int | None, answers: Any) -> dict[int, Any]:
    return {} if status is None else {status: answers or OpenApiResponse(description="Done; no body.")}


class AutoSchema(openapi.AutoSchema):
    """Adds what all operations share: problem documents as errors, and the scope of the token."""

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies = super()._get_response_bodies(direction)
        for status in self._problems():
            body = self._get_response_for_code(ProblemSerializer, status, [PROBLEM_JSON], direction)
            bodies.setdefault(status, {**body, "description": PROBLEMS[status]})
        return bodies

    def _problems(self) -> list[str]:
        changes = self.method not in permissions.SAFE_METHODS
        reasons = {
            "400": changes and self.get_request_serializer() is not None,
            "401": self._is_private(),
            "403": self._is_private() and changes,
            "404": "{" in self.path,
            "409": changes and self._is_private(),
            "415": changes and self.get_request_serializer() is not None,
            "429": bool(self.view.get_throttles()),
        }
        return [status for status, is_possible in reasons.items() if is_possible]

    def _is_private(self) -> bool:
        """Test if a token is needed: what anybody may read, nobody changes without one, but for signing in."""
        is_open = any(isinstance(row, permissions.AllowAny) for row in self.view.get_permissions())
        return not is_open or (self.method not in permissions.SAFE_METHODS and bool(self.view.get_authenticators()))

    def get_extensions(self) -> dict[str, Any]:
        return {"x-scope": scope_of(self.path, self.method)} if self._is_private() else {}


class BearerScheme(OpenApiAuthenticationExtension):
    """Personal tokens."""

    target_class = "portal.accounts.authentication.BearerAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: openapi.AutoSchema) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A personal token, made under Account, API tokens."}


@functools.cache
def document() -> dict[str, Any]:
    """Return the whole description. It depends on the code alone, so it is made once in each process."""
    return SchemaGenerator().get_schema(request=None, public=True)
