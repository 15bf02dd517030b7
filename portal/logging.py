"""What the site's processes write: no secrets, and on each line the request and the run that it belongs to."""

import logging
import re
from contextvars import ContextVar

SECRETS = re.compile(
    r"(X-Amz-(?:Signature|Credential|Security-Token)=|Bearer\s+|password=|token=|://[^:/\s]*:)[^&\s'\"@]+",
    re.IGNORECASE,
)
request_id: ContextVar[str] = ContextVar("request_id", default="")
run_id: ContextVar[str] = ContextVar("run_id", default="")


def redacted(text: str) -> str:
    """Return a text without tokens, passwords and the signature of presigned addresses."""
    return SECRETS.sub(r"\1[redacted]", text)


class Redact(logging.Filter):
    """Replace secrets in every line."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if (clean := redacted(message)) != message:
            record.msg, record.args = clean, ()
        return True


class Context(logging.Filter):
    """Put the request's and the run's number on every line."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id, record.run_id = request_id.get(), run_id.get()
        return True
