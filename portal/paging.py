"""Lists of the API: newest first, by keyset, so that the last page costs what the first does."""

from typing import Any

from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer, Serializer

from portal.openapi import Query, require_known

PAGE_SIZE = 100
BEFORE = Query("before", int, description="Only what is older than this id; `next` has it.")


def page(
    request: Request,
    rows: QuerySet[Any],
    serializer: type[BaseSerializer],
    *,
    filters: type[Serializer] | None = None,
    **context: Any,
) -> Response:
    """
    Answer one page of `rows` and the address of the next.

    Args:
        filters: what the caller has narrowed `rows` by. A filter that the list does not have is refused: who asked for
            a part would take the whole for it.
    """
    require_known(request.query_params, {"before", *(filters().fields if filters else ())})
    before = request.query_params.get("before", "")
    if before and not before.isdecimal():
        raise ValidationError({"before": [f"{before[:40]} is no number. Follow `next` of the page before."]})
    rows = rows.order_by("-pk")
    found = list((rows.filter(pk__lt=int(before[:18])) if before else rows)[: PAGE_SIZE + 1])
    following = None
    if len(found) > PAGE_SIZE:
        query = request.query_params.copy()
        query["before"] = str(found[PAGE_SIZE - 1].pk)
        following = request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
    results = serializer(found[:PAGE_SIZE], many=True, context={"request": request, **context}).data
    return Response({"results": results, "next": following})
