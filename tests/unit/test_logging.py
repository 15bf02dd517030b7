"""What the processes write: no secret, also not in a traceback."""

import logging
import sys
from logging.config import DictConfigurator

import pytest
from django.conf import settings

ADDRESS = "https://store/part?X-Amz-Signature=5ecre7&partNumber=3"


@pytest.mark.parametrize("form", ["line", "json"])
def test_a_traceback_holds_no_signature_of_the_store(form):
    configured = DictConfigurator(settings.LOGGING)
    formatter = configured.configure_formatter(settings.LOGGING["formatters"][form])
    try:
        raise ConnectionError(f"Max retries exceeded with url: {ADDRESS}")
    except ConnectionError:
        record = logging.LogRecord("portal", logging.ERROR, __file__, 1, "PUT", (), sys.exc_info(), sinfo=ADDRESS)
    logging.Formatter().format(record)  # another handler was first, and left its text on the record
    record.request_id = record.run_id = ""
    written = formatter.format(record)
    assert "5ecre7" not in written
    assert written.count("https://store/part?X-Amz-Signature=[redacted]&partNumber=3") == 2
