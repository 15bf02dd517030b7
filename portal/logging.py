"""What the site's processes write: no secrets, and on each line the request and the run that it belongs to."""

import logging
import re
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.json import JsonFormatter

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


class Lines(logging.Formatter):
    """Lines for people, without secrets in the tracebacks below them: an exception quotes the address it failed at."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # what another formatter may have left there
        return super().format(record)

    def formatException(self, ei: Any) -> str:
        return redacted(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return redacted(super().formatStack(stack_info))


class Json(Lines, JsonFormatter):
    """The same as JSON, for a collector."""


class Context(logging.Filter):
    """Put the request's and the run's number on every line."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id, record.run_id = request_id.get(), run_id.get()
        return True
