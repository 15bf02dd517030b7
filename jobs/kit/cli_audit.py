"""The command that verifies the audit log without a connection."""

from pathlib import Path

import click

from . import terminal
from .audit import Given
from .audit import verify as verify_log
from .cli_receipt import keys_from
from .findings import CANNOT_TELL, FAILS, HOLDS, UNKNOWN
from .receipts import ReceiptError

SENTENCES = {
    HOLDS: "Verified: everything that was given holds.",
    FAILS: "Not verified: see above what does not hold. The log, or what you were given of it, was changed.",
    UNKNOWN: "Cannot tell: nothing is wrong so far, but see above what is missing.",
}


@click.group()
def audit() -> None:
    """The consortium's audit log."""


@audit.command()
@click.argument("export", required=False, type=terminal.existing_file, metavar="[EXPORT.JSONL]")
@click.option("--key", "key_text", required=True, metavar="BASE64|FILE", help="The portal's key, or its keys.json.")
@click.option("--checkpoint", type=terminal.existing_file, help="The newest checkpoint of the log.")
@click.option("--earlier", type=terminal.existing_file, multiple=True, help="One that you kept; may be repeated.")
@click.option("--inclusion", type=terminal.existing_file, help="A proof that an event is in the log (JSON).")
@click.option("--consistency", type=terminal.existing_file, help="A proof that the log only grew (JSON).")
@click.option("--hashes", type=terminal.existing_file, help="The log's leaf hashes, to name the line that differs.")
@terminal.as_json_option
def verify(
    export: Path | None,
    key_text: str,
    checkpoint: Path | None,
    earlier: tuple[Path, ...],
    inclusion: Path | None,
    consistency: Path | None,
    hashes: Path | None,
    as_json: bool,
) -> int:
    """
    Verify the audit log offline. Exit status: 0 everything holds, 2 something does not, 3 cannot tell.

    Fetch the portal's key once, over a connection you trust (/agreements/keys.json), and keep a checkpoint
    (/log/checkpoint): from then on no event that it covers can be changed without your seeing it.
    """
    given = Given(
        export=export,
        hashes=hashes,
        checkpoint=_content(checkpoint),
        earlier=[path.read_bytes() for path in earlier],
        inclusion=_content(inclusion),
        consistency=_content(consistency),
    )
    try:
        keys = keys_from(key_text)
    except ReceiptError as error:
        error.exit_code = CANNOT_TELL
        raise
    return terminal.print_findings(verify_log(given, keys=keys), SENTENCES, as_json=as_json)


def _content(path: Path | None) -> bytes | None:
    return path.read_bytes() if path else None
