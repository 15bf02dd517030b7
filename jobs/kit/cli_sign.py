"""The commands that make evidence: keys, sign, privacy."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from . import keys, statements, terminal, train_extra
from .checks.results import CheckResult
from .cli_local import base_folder, read_json, require_sound
from .client import NEEDS_CHANGES, Document
from .errors import KitError

PASSPHRASE = "CONSORTIUM_KEY_PASSPHRASE"
SIGNATURES = (statements.WEIGHTS, statements.SYNTHETIC)

key_option = click.option(
    "--key",
    "key_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Signing key.  [default: CONSORTIUM_KEY, or signing-key.pem in your configuration folder]",
)


def signing_key(key_file: Path | None) -> "keys.Ed25519PrivateKey":
    """Return the institution's key from a file; its passphrase comes from the environment alone."""
    return keys.load(key_file or keys.default_path(), os.environ.get(PASSPHRASE, ""))


institution_option = click.option(
    "--institution", metavar="SLUG", help="Print the line with which its signing official registers the key."
)


@click.group("keys")
def keys_group() -> None:
    """The institution's signing key: make it here, let the signing official register its public half."""


@keys_group.command()
@key_option
@institution_option
@terminal.as_json_option
def new(key_file: Path | None, institution: str | None, as_json: bool) -> None:
    """Make an ed25519 key pair. CONSORTIUM_KEY_PASSPHRASE, where it is set, encrypts the file."""
    path = key_file or keys.default_path()
    _show(keys.create(path, os.environ.get(PASSPHRASE, "")), path, institution, as_json)


@keys_group.command()
@key_option
@institution_option
@terminal.as_json_option
def show(key_file: Path | None, institution: str | None, as_json: bool) -> None:
    """Print the public half and its fingerprint."""
    _show(signing_key(key_file), key_file or keys.default_path(), institution, as_json)


def _show(key: "keys.Ed25519PrivateKey", path: Path, institution: str | None, as_json: bool) -> None:
    public, name = keys.public_text(key), statements.fingerprint(statements.public_bytes(key))
    line = keys.registration(key, institution) if institution else ""
    if as_json:
        shown = {"public_key": public, "fingerprint": name, "key_file": str(path)}
        return terminal.print_json(shown | ({"registration": line} if line else {}))
    click.echo(f"Public key:   {public}\nFingerprint:  {name}\nKey file:     {path}")
    if line:
        click.echo(f"Registration: {line}")
        return terminal.say("The signing official pastes the registration into the institution's page, Signing keys.")
    terminal.say("`consortium keys show --institution SLUG` prints what its signing official registers the key with.")


@click.command()
@click.argument("file", metavar="FILE|FOLDER", type=terminal.existing_path)
@click.option("--base", "base_name", default="fundus-64", show_default=True, metavar="NAME|DIR", help="Of a FOLDER.")
@key_option
@click.option("--out", "target", type=click.Path(dir_okay=False, path_type=Path), help="[default: beside it]")
@terminal.as_json_option
def sign(file: Path, base_name: str, key_file: Path | None, target: Path | None, as_json: bool) -> None:
    """
    Sign what goes by the browser; `contribute` signs by itself.

    FILE is a weights file. FOLDER is one of `consortium sample`: its images are packed into FOLDER/shards, which are
    what you send.
    """
    from . import generator, scan, sending, shards, synthetic  # noqa: PLC0415 -- numpy takes a moment; --help does without

    key = signing_key(key_file)
    beside = file / f"{shards.SUMS}.signed.json" if file.is_dir() else file.with_name(f"{file.name}.signed.json")
    target = target or beside
    inputs = [file, key_file or keys.default_path()]
    require_own(target, SIGNATURES, inputs)
    terminal.require_writable(target)
    if file.is_dir():
        listed = synthetic.hashed(synthetic.pack(file, generator.load_base(base_folder(base_name))))
        sha256, signature = shards.digest_of(listed), sending.signature_of_shards(listed, key)
    else:
        sha256 = scan.sha256_of(file)
        signature = sending.signature_of(file.name, sha256, file.stat().st_size, key)
    write(target, signature, SIGNATURES, inputs)
    if as_json:
        return terminal.print_json({"signature": str(target), "sha256": sha256})
    click.echo(str(target))


def write(target: Path, envelope: Document, kinds: tuple[str, ...], inputs: list[Path]) -> None:
    """Write a signed statement; what is at that place now may have come there while it was made (a shard)."""
    require_own(target, kinds, inputs)
    terminal.write_json(target, envelope)


def require_own(target: Path, kinds: tuple[str, ...], inputs: list[Path]) -> None:
    """Refuse a place where something else stands than a statement of these kinds, which a new one may replace."""
    if not target.exists():
        return
    if any(path.exists() and target.samefile(path) for path in inputs):
        fix = "Choose another --out, or leave it away."
        raise KitError(f"{target} is what this command reads; nothing was written.", code="out_is_input", fix=fix)
    if not _holds(target, kinds):
        fix = "Choose another --out, or move that file away."
        sentence = f"{target} exists, and is nothing that this command wrote before; nothing was written."
        raise KitError(sentence, code="target_exists", fix=fix)


def _holds(path: Path, kinds: tuple[str, ...]) -> bool:
    """Test if a file is a signed statement of one of these kinds."""
    if not path.is_file() or path.stat().st_size > 2 * statements.LONGEST_BYTES:
        return False
    try:
        envelope = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return any(_is_statement(envelope, kind) for kind in kinds)


def _is_statement(envelope: object, kind: str) -> bool:
    try:
        statements.unverified(envelope, kind)
    except statements.StatementError:
        return False
    return True


@click.command()
@click.argument("folder", type=terminal.existing_folder)
@click.option("--weights", type=terminal.existing_file, required=True)
@click.option("--card", "card_file", type=terminal.existing_file, help="training_card.json, for its entry on privacy.")
@click.option("--base", "base_name", default="fundus-64", show_default=True, metavar="NAME|DIR", help="Base generator.")
@click.option("--out", "target", type=click.Path(dir_okay=False, path_type=Path), help="[default: beside the weights]")
@key_option
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--seed", type=terminal.seed, default=0, show_default=True)
@click.option(
    "--most",
    type=click.IntRange(20),
    default=500,
    show_default=True,
    help="Photographs of either side that the attack asks.",
)
@click.option(
    "--samples", type=click.IntRange(16), default=64, show_default=True, help="Images drawn from the weights."
)
@click.option(
    "--images",
    "images_dir",
    type=terminal.existing_folder,
    help="For synthetic images: the folder of `sample` that you will send; measured instead of images drawn here.",
)
@terminal.as_json_option
def privacy(
    folder: Path,
    weights: Path,
    card_file: Path | None,
    base_name: str,
    target: Path | None,
    key_file: Path | None,
    device: str,
    seed: int,
    most: int,
    samples: int,
    images_dir: Path | None,
    as_json: bool,
) -> int:
    """
    Measure what WEIGHTS give away of the photographs in FOLDER, and sign the report.

    FOLDER is the one that `fit` got: training photographs, and others that were held out. The report holds statistics
    only. Exit status 0 when the portal would pass it or warn, 2 when it would fail; one that the portal would not take
    is not signed.
    """
    key = signing_key(key_file)  # before an hour of work, not after it
    target = target or (images_dir or weights.parent) / "privacy_report.json"
    inputs = [path for path in (weights, card_file, key_file or keys.default_path()) if path]
    require_own(target, (statements.PRIVACY,), inputs)
    terminal.require_writable(target)
    base_dir = base_folder(base_name)
    with train_extra.needed(), terminal.Bars() as on_progress:
        from . import fit, generator  # noqa: PLC0415 -- slow imports
        from .checks.privacy import judge  # noqa: PLC0415 -- as above
        from .checks.report import problem_of, problem_of_budget  # noqa: PLC0415 -- as above
        from .privacy import declared  # noqa: PLC0415 -- as above
        from .privacy import report as measure  # noqa: PLC0415 -- as above

        base = generator.load_base(base_dir)
        require_sound(weights, base)
        card = read_json(card_file) if card_file else {}
        dp = declared(card.get("dp"))
        _require_taken(problem_of_budget(dp))
        name, subject, sent = _sent(images_dir, base, samples)
        report = measure(
            folder,
            weights,
            base_dir,
            dp=dp,
            device=fit.choose_device(device),
            seed=seed,
            most=most,
            samples=samples,
            sent=sent,
            on_progress=on_progress,
        )
    _require_taken(problem_of(report, base))
    subject = subject or report["weights_sha256"]
    envelope = statements.sign(statements.PRIVACY, name or weights.name, subject, report, key)
    write(target, envelope, (statements.PRIVACY,), inputs)
    return _told(judge(report, base, card), target, report, as_json=as_json)


def _told(result: CheckResult, target: Path, report: dict[str, Any], *, as_json: bool) -> int:
    """Print the verdict of check 9; return the exit status."""
    if as_json:
        terminal.print_json({"report": str(target), "verdict": result.verdict, "statistics": report})
    else:
        terminal.print_check(asdict(result))
        click.echo(str(target))
    return NEEDS_CHANGES if result.verdict == "fail" else 0


def _require_taken(problem: str) -> None:
    """Refuse to sign what check 9 would refuse for its form."""
    if problem:
        raise KitError(
            f"The portal would not take this privacy report: {problem}. Nothing was signed.",
            code="report_malformed",
            fix="Correct what is named: dp in the training card, anything else by the options of this command.",
            exit_code=NEEDS_CHANGES,
        )


def _sent(images_dir: Path | None, base: Any, samples: int) -> tuple[str, str, Any]:
    """Return (name, SHA-256, pixels) of the images to be sent that the report is about; empty for weights."""
    if images_dir is None:
        return "", "", None
    from . import shards, synthetic  # noqa: PLC0415 -- as above

    paths = synthetic.pack(images_dir, base)
    return shards.SUMS, shards.digest_of(synthetic.hashed(paths)), synthetic.some(paths, base, samples)
