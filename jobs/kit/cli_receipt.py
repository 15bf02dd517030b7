"""The command that verifies an agreement's receipt without a connection."""

from pathlib import Path

import click

from . import receipts, terminal
from .errors import KitError
from .findings import CANNOT_TELL, EXIT_CODES, FAILS, HOLDS, UNKNOWN

SENTENCES = {
    HOLDS: "Valid: everything in this receipt holds.",
    FAILS: "Not valid: see above what does not hold. Do not rely on this receipt.",
    UNKNOWN: "Cannot tell: nothing is wrong so far, but see above what is missing.",
}


@click.group()
def receipt() -> None:
    """Receipts of signed agreements."""


@receipt.command()
@click.argument("path", type=terminal.existing_file, metavar="RECEIPT.JSON")
@click.option("--text", "text_path", type=terminal.existing_file, help="The agreement as signed (Markdown).")
@click.option("--key", "key_text", metavar="BASE64|FILE", help="The portal's public key, or its keys.json.")
@terminal.as_json_option
@click.pass_context
def verify(context: click.Context, path: Path, text_path: Path | None, key_text: str | None, as_json: bool) -> int:
    """
    Verify a receipt offline. Exit status: 0 valid, 2 not valid, 3 cannot tell.

    Fetch the portal's key once, over a connection you trust: /agreements/keys.json.
    """
    text = text_path.read_bytes() if text_path else None
    try:
        document = receipts.load(path.read_bytes())
        findings = receipts.verify(document, text=text, keys=keys_from(key_text))
    except receipts.ReceiptError as error:
        error.exit_code = CANNOT_TELL if error.code == "key_unreadable" else EXIT_CODES[FAILS]
        raise
    return terminal.print_findings(findings, SENTENCES, as_json=as_json)


def keys_from(text: str | None) -> list[str]:
    """Return the keys from the option: base64 itself, or the name of a file that holds it or keys.json."""
    if not text:
        return []
    try:
        return receipts.read_keys(Path(text).read_text(encoding="utf-8-sig") if Path(text).is_file() else text)
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"The key {text} cannot be read ({error}).", exit_code=CANNOT_TELL) from None
