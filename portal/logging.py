"""Keep secrets out of the log."""

import logging
import re

SECRETS = re.compile(
    r"(X-Amz-(?:Signature|Credential|Security-Token)=|Bearer\s+|password=|token=|://[^:/\s]*:)[^&\s'\"@]+",
    re.IGNORECASE,
)


class Redact(logging.Filter):
    """Replace tokens, passwords and the signature of presigned addresses in every line."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        redacted = SECRETS.sub(r"\1[redacted]", message)
        if redacted != message:
            record.msg, record.args = redacted, ()
        return True
