"""The whole log for auditors, in the bytes that are hashed."""

from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET

from portal.audit import tree
from portal.audit.models import Checkpoint
from portal.audit.views import require_auditor


@require_GET
def export(request: HttpRequest, size: int) -> HttpResponseBase:
    """Send the events under a checkpoint as JSON Lines: line n is leaf n - 1, exactly as it is hashed."""
    require_auditor(request)
    checkpoint = get_object_or_404(Checkpoint, size=size)
    headers = {
        "Content-Disposition": f'attachment; filename="log-{checkpoint.size}.jsonl"',
        "Cache-Control": "private, no-store",
    }
    return StreamingHttpResponse(tree.lines(checkpoint.size), content_type="application/jsonl", headers=headers)
