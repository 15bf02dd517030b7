"""The commands that speak with a portal: login, contribute, status, models, download."""

import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click

from . import cards, cli_sign, client, fetch, keys, sending, signin, terminal, transfer
from .cli_local import read_json, require_sendable
from .client import NEEDS_CHANGES, PLATFORM_FAULT, Document, Portal
from .errors import KitError

WAITING = {"submitted", "validating"}
REFUSED = {"rejected", "returned", "withdrawn"}
DEFAULT_BASE = "fundus-64"
POLL_SECONDS, SLOWEST_POLL_SECONDS = 2.0, 15.0


@click.command()
@click.option("--url", required=True, help="Address of the portal, https://…")
@click.option("--allow-http", is_flag=True, help="Accept an unencrypted portal on another machine.")
@terminal.as_json_option
def login(url: str, allow_http: bool, as_json: bool) -> None:
    """Sign this machine in: shows a code that you approve in a browser, here or elsewhere."""
    portal = Portal(url)
    if portal.url.startswith("http:") and not client.is_loopback(portal.url) and not allow_http:
        fix = "Use https, or --allow-http if you accept that."
        raise KitError(f"{portal.url} is not encrypted: others could read your token.", code="not_encrypted", fix=fix)

    def show(code: Document) -> None:
        terminal.say(f"Open {code['verification_url']}\nand enter the code   {code['user_code']}")
        terminal.say(f"It is valid for {code['expires_in_seconds'] // 60} minutes. Waiting …")

    signin.require_place()
    token = signin.sign_in(portal, f"consortium-kit on {socket.gethostname()}"[:100], show)
    portal = Portal(url, token)
    path = signin.save_credentials(signin.Credentials(portal.url, token))
    me = portal.me()
    if here := [name for name in ("CONSORTIUM_URL", "CONSORTIUM_TOKEN") if os.environ.get(name)]:
        go, them = ("go", "them") if len(here) > 1 else ("goes", "it")
        names = " and ".join(here)
        terminal.say(f"{names} in your environment {go} before what was saved now: unset {them} to use it.")
    if as_json:
        return terminal.print_json({"url": portal.url, "saved_to": str(path), "me": me})
    click.echo(f"Signed in to {portal.url} as {me['email']}. The token is in {path}, readable by you alone.")
    for institution in me["institutions"]:
        click.echo(f"  {institution['slug']}  {institution['name']} ({', '.join(institution['roles'])})")


@click.group()
def contribute() -> None:
    """Send something to the consortium."""


def _day(context: click.Context, option: click.Parameter, value: str | None) -> date | None:
    """Return the day of an option; one that is over is refused before anything is sent."""
    if value is None:
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value} is no day. Write it as YYYY-MM-DD, such as 2027-03-01.") from None
    if day <= datetime.fromtimestamp(time.time(), UTC).date():
        raise click.BadParameter("An embargo ends on a day that is to come. Give a later one, or leave it out.")
    return day


def sending_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every `contribute` has."""
    for option in reversed(
        (
            click.option("--institution", required=True, metavar="SLUG", help="As `consortium login` lists it."),
            click.option("--title", required=True),
            click.option(
                "--card",
                "card_file",
                type=terminal.existing_file,
                required=True,
                help="training_card.json of `consortium fit`.",
            ),
            click.option(
                "--privacy", "report_file", type=terminal.existing_file, help="privacy_report.json of `privacy`."
            ),
            click.option(
                "--embargo-until",
                metavar="YYYY-MM-DD",
                callback=_day,
                help="Not to be used before this day (UTC): you publish about your data first. At most two years.",
            ),
            cli_sign.key_option,
            click.option("--unsigned", is_flag=True, help="Send without a signature; the portal may ask for it."),
            click.option("--base", "base_model", metavar="NAME|DIR", help="Base generator.  [default: the card's]"),
            click.option(
                "--resume",
                "resume_id",
                type=int,
                metavar="ID",
                help="Go on with this contribution, also one of the browser.",
            ),
            click.option(
                "--connections",
                type=click.IntRange(1, 8),
                default=transfer.CONNECTIONS,
                show_default=True,
                help="Parts sent at once. An interruption costs at most so many, of 16 MiB each.",
            ),
            click.option("--no-wait", is_flag=True, help="Do not wait for the checks."),
            terminal.as_json_option,
        )
    ):
        command = option(command)
    return command


@contribute.command("weights")
@click.argument("file", type=terminal.existing_file)
@sending_options
def contribute_weights(file: Path, base_model: str | None, card_file: Path, **given: Any) -> int:
    """
    Sign and upload a weights FILE, submit it, and follow the checks until it stands before the board.

    Exit status 0 accepted into review, 2 needs changes, 3 a fault of the platform. Run it again after an interruption:
    it goes on with the same draft, and sends only what has not arrived.
    """
    slug = require_sendable(file, base_model or base_of(card_file))
    return contribute_files("weights", (file,), base_model=slug, card_file=card_file, **given)


def contribute_files(
    kind: str,
    files: tuple[Path, ...],
    *,
    institution: str,
    title: str,
    card_file: Path,
    report_file: Path | None,
    embargo_until: date | None,
    key_file: Path | None,
    unsigned: bool,
    base_model: str,
    resume_id: int | None,
    connections: int,
    no_wait: bool,
    as_json: bool,
) -> int:
    """Send files of one kind with what goes with them, and follow the checks; return the exit status."""
    parcel = sending.Parcel(
        kind=kind,
        institution=institution,
        base_model=base_model,
        title=title,
        card=_card(card_file),
        files=files,
        connections=connections,
        embargo_until=embargo_until,
        report=read_json(report_file) if report_file else None,
        key=None if unsigned else _key(key_file),
    )
    portal = signin.signed_in()
    found = sending.send(portal, parcel, resume_id)
    return _finish(portal, found if no_wait else _follow(portal, found["id"], as_json), as_json)


def _key(key_file: Path | None) -> "keys.Ed25519PrivateKey":
    """Return the key to sign with; nobody sends without a signature unasked."""
    try:
        return cli_sign.signing_key(key_file)
    except keys.KeyFileError as error:
        more = " Or add --unsigned: the portal may ask for the signature later." if error.code == "key_missing" else ""
        raise keys.KeyFileError(error.sentence, code=error.code, fix=error.fix + more) from None


def base_of(card_file: Path) -> str:
    """Return the slug of the base generator that a training card names."""
    base = read_json(card_file).get("base")
    return str((base.get("slug") if isinstance(base, dict) else base) or DEFAULT_BASE)


def _card(card_file: Path) -> Document:
    """
    Return the training card as it may leave the site: counts of 1 to 9 as `<10`, for they can point at people.

    Raises:
        KitError: something in it is wrong, and the portal would refuse it; what is missing can be filled in there.
    """
    card = cards.suppress_small_cells(read_json(card_file))
    card |= {name: "unknown" for name in ("cameras", "demographics", "labels") if card.get(name) == {}}
    if wrong := next((problem for problem in cards.problems(card) if not problem.missing), None):
        raise KitError(wrong.sentence, code="card_invalid", fix=f"Correct {card_file}; nothing was sent.")
    return card


def _follow(portal: Portal, contribution_id: int, as_json: bool) -> Document:
    """Print each check as the portal reports it, until the checks are over or wait for the consortium."""
    shown: set[tuple[int, str]] = set()
    state, pause = "", POLL_SECONDS
    while True:
        found = portal.contribution(contribution_id)
        fresh = [row for row in found["checks"] if (row["number"], row["sentence"]) not in shown]
        if found["status"] != state:
            state = found["status"]
            terminal.say(f"{state} …" if state in WAITING else state)
        for row in fresh if not as_json else []:
            terminal.print_check(row)
        shown.update((row["number"], row["sentence"]) for row in fresh)
        if state not in WAITING or _is_held_up(found):
            return found
        pause = POLL_SECONDS if fresh else min(pause * 1.3, SLOWEST_POLL_SECONDS)
        time.sleep(pause)


def _is_held_up(found: Document) -> bool:
    """Test if its checks wait for the consortium: a fault stopped them, or it is isolated; old portals do not say."""
    return found["status"] in WAITING and bool(found.get("stalled_at") or found.get("isolation"))


def _finish(portal: Portal, found: Document, as_json: bool) -> int:
    """Print where the contribution stands and return the exit status."""
    page = portal.absolute(found["url"])
    if as_json:
        terminal.print_json({**found, "url": page})
    else:
        lines = [f"Contribution {found['id']} ({found['title']}): {found['status']}", found.get("reason"), page]
        click.echo(terminal.shown("\n".join(filter(None, lines))))
    if _is_held_up(found):
        terminal.say("Its checks wait for the consortium; nothing is asked of you. The page tells why.")
        return PLATFORM_FAULT
    return NEEDS_CHANGES if found["status"] in REFUSED else 0


@click.command()
@click.argument("contribution_id", metavar="ID", type=int)
@click.option("--watch", is_flag=True, help="Follow the checks until they are over.")
@terminal.as_json_option
def status(contribution_id: int, watch: bool, as_json: bool) -> int:
    """
    Show where contribution ID stands.

    Exit status 2 when it was rejected, returned for changes or withdrawn, 3 when its checks wait for the consortium.
    """
    portal = signin.signed_in()
    if watch:
        return _finish(portal, _follow(portal, contribution_id, as_json), as_json)
    found = portal.contribution(contribution_id)
    for row in [] if as_json else found["checks"]:
        terminal.print_check(row)
    return _finish(portal, found, as_json)


@click.command()
@terminal.as_json_option
def models(as_json: bool) -> None:
    """List the released models."""
    released = signin.signed_in(required=False).models()
    if as_json:
        return terminal.print_json(released)
    if not released:
        click.echo("No model is released yet.")
    for model in released:
        size = sum(file["size_bytes"] for file in model["files"]) / 2**20
        accepted = "licence accepted" if model["accepted"] else "licence not accepted by you"
        click.echo(f"{model['slug']}  {model['name']} {model['version']}  {size:.1f} MiB")
        click.echo(f"    {model['licence']['spdx']}, {accepted}: {model['licence']['url']}")


@click.command()
@click.argument("slug")
@click.option("--out", "out_dir", type=terminal.new_folder, required=True)
@click.option("--accept-licence", "spdx", metavar="SPDX", help="You have read this licence and accept it.")
@click.option("--name", default="", help="Your name, put under the licence.")
@click.option("--purpose", default="", help="What you will use the model for.")
@click.option("--institution", default="", help="Where you work.")
@terminal.as_json_option
def download(
    slug: str, out_dir: Path, spdx: str | None, name: str, purpose: str, institution: str, as_json: bool
) -> None:
    """Fetch a released model and verify it by its SHA256SUMS; resumes after an interruption."""
    portal = signin.signed_in()
    release = next((model for model in portal.models() if model["slug"] == slug), None)
    if release is None:
        raise KitError(f"There is no released model {slug}.", code="not_found", fix="`consortium models` lists them.")
    if not release["accepted"]:
        _accept(portal, release, spdx, name=name, purpose=purpose, institution=institution)
    with terminal.Bars(is_bytes=True) as on_progress:
        paths = fetch.download_release(portal, release, out_dir, on_progress=on_progress)
    if as_json:
        return terminal.print_json({"slug": slug, "files": [str(path) for path in paths], "verified": True})
    click.echo("\n".join(map(str, paths)))
    terminal.say(f"{len(paths)} files, verified by {fetch.CHECKSUMS}.")


@click.command()
@click.argument("slug")
@click.option("--version", help="[default: the newest]")
@click.option("--out", "out_dir", type=terminal.new_folder, required=True, help="Gets the folder for --base.")
@terminal.as_json_option
def base(slug: str, version: str | None, out_dir: Path, as_json: bool) -> None:
    """
    Fetch a registered base generator, for --base of the other commands; resumes after an interruption.

    Run again, it brings the checks and thresholds up to date that the programme asks for.
    """
    portal = signin.signed_in()
    rows = portal.base_models()
    found = [row for row in rows if row["slug"] == slug and version in (None, row["version"])]
    if not found:
        known = ", ".join(f"{row['slug']} {row['version']}" for row in rows) or "none"
        sentence = f"The portal has no base generator {' '.join(filter(None, (slug, version)))}."
        raise KitError(sentence, code="not_found", fix=f"It has: {known}.")
    row = max(found, key=lambda row: int(row["id"]))
    with terminal.Bars(is_bytes=True) as on_progress:
        fetch.download_base(portal, row, out_dir, on_progress=on_progress)
    if as_json:
        return terminal.print_json({"base": row["slug"], "version": row["version"], "folder": str(out_dir)})
    click.echo(f"{out_dir}: {row['slug']} {row['version']}, licence {row['licence']}.")
    if row["config"].get("reference") and not (out_dir / "reference.safetensors").exists():
        terminal.say("Its public reference stays at the centre: checks 8, 10 and 11 are made there.")
    terminal.say(f"Next: consortium fit prepared --out run --base {terminal.quoted(out_dir)}")


def _accept(portal: Portal, release: Document, spdx: str | None, **facts: str) -> None:
    licence = release["licence"]
    if spdx != licence["spdx"] or not all(facts.values()):
        raise KitError(
            f"{release['slug']} may be used under {licence['spdx']}, which you have not accepted.",
            code="licence_not_accepted",
            fix=f"Read {licence['url']}, then add: --accept-licence {licence['spdx']} "
            "--name … --purpose … --institution …",
        )
    portal.accept_licence(
        release["slug"],
        licence_sha256=licence["sha256"],
        typed_name=facts["name"],
        purpose=facts["purpose"],
        institution=facts["institution"],
    )
    terminal.say(f"You accepted {licence['spdx']} for {release['slug']}.")
