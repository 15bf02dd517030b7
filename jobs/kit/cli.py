"""
The command `consortium`: fit, check, contribute and download from a terminal, also over ssh and in batch jobs.

Results go to standard output (with --json as one document), everything else to standard error. Exit status: 0 done;
1 it cannot be done as asked; 2 the file or the contribution needs changes; 3 a fault of the platform or the network,
try again; 64 the command was typed wrongly (EX_USAGE of sysexits.h); 130 interrupted.
"""

import errno
import io
import os
import re
import socket
import ssl
import sys

import click

from . import (
    __version__,
    cli_audit,
    cli_local,
    cli_portal,
    cli_receipt,
    cli_sign,
    cli_site,
    cli_synthetic,
    terminal,
)
from .client import PLATFORM_FAULT
from .errors import KitError, is_out_of_memory

WRONG_USAGE = 64
INTERRUPTED = 130
GO_ON = {  # after Ctrl-C
    "fit": "Run the same command with --resume: it goes on from the last step that was saved.",
    "prepare": "Nothing is prepared yet; the same command begins anew.",
    "privacy": "Nothing is written yet; the same command begins anew.",
    "check": "The same command begins anew.",
}
NO_MEMORY = "Memory ran out, this machine's or its graphics card's."
LESS_MEMORY = (
    "End what else uses it, or take --device cpu where the card was too small. `fit` takes less with a smaller "
    "--batch-size into another --out, `privacy` with a smaller --most."
)
OF_THE_NETWORK = (ConnectionError, TimeoutError, ssl.SSLError, socket.gaierror)
UNREACHED = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status; errors are sentences, never tracebacks."""
    _take_every_letter()
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except OSError:  # the error could not be printed: standard output or error is full or closed
        if os.environ.get("CONSORTIUM_DEBUG"):
            raise
        _drop_unwritten()
        return 1


def _take_every_letter() -> None:
    """Let what a terminal cannot show, as a name that is no text, be shown as a code: it must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _drop_unwritten() -> None:
    """Let what could not be written go nowhere, else Python fails over it once more when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    try:
        return commands.main(arguments, "consortium", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return WRONG_USAGE
    except click.ClickException as error:
        error.show()
        return _end(KitError(error.format_message(), code="usage", exit_code=WRONG_USAGE), as_json)
    except (click.Abort, KeyboardInterrupt):
        fix = GO_ON.get(arguments[0] if arguments else "", "Run the same command again to go on.")
        click.echo(f"Stopped. {fix}", err=True)
        return _end(KitError("Stopped.", code="interrupted", fix=fix, exit_code=INTERRUPTED), as_json)
    except KitError as error:
        return _fail(error, as_json)
    except Exception as error:
        if os.environ.get("CONSORTIUM_DEBUG"):
            raise
        if (refused := _refused_by_the_disk(error)) is not None:
            return _fail(refused, as_json)
        if is_out_of_memory(error):
            return _fail(KitError(NO_MEMORY, code="out_of_memory", fix=LESS_MEMORY), as_json)
        sentence = f"Something unexpected happened ({type(error).__name__}: {error})."
        fix = "Set CONSORTIUM_DEBUG=1 and run it again to see where, and tell the consortium."
        return _fail(KitError(sentence, code="unexpected", fix=fix, exit_code=PLATFORM_FAULT), as_json)


def _refused_by_the_disk(error: Exception) -> KitError | None:
    """Return the error for a file that cannot be read or written here; None for all others, the network's too."""
    number, path = getattr(error, "errno", None), getattr(error, "filename", None)
    if found := re.search(r'\(os error (\d+)\)(?: at path "(.*)")?', str(error)):  # as the safetensors library says it
        number, path = int(found[1]), found[2] and os.path.dirname(found[2])  # the file itself has a passing name
    if not isinstance(number, int) or number not in errno.errorcode:
        return None
    if number in UNREACHED or isinstance(error, OF_THE_NETWORK):
        return None
    if number in NO_ROOM:
        code, fix = "no_room", "Make room there, then run it again."
    elif number in NOT_ALLOWED:
        code, fix = "not_allowed", "Choose a folder that you may use, or ask whoever looks after this machine."
    else:
        code, fix = "file_unusable", "Check the path and the disk, then run it again."
    where = os.fsdecode(path) if isinstance(path, str | bytes) else "A file or folder"
    return KitError(f"{where} cannot be used: {os.strerror(number)}.", code=code, fix=fix)


def _fail(error: KitError, as_json: bool) -> int:
    click.echo(f"Error: {error}", err=True)
    return _end(error, as_json)


def _end(error: KitError, as_json: bool) -> int:
    if as_json:
        facts = {"code": error.code, "sentence": error.sentence, "fix": error.fix}
        terminal.print_json({"error": {**facts, "next_url": getattr(error, "next_url", "")}})
    return error.exit_code


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="consortium-kit")
def commands() -> None:
    """Work with the Global RETFound consortium from your own machine. Photographs never leave it."""


for _command in (
    cli_site.doctor,
    cli_site.prepare,
    cli_site.convert,
    cli_local.fit,
    cli_local.check,
    cli_synthetic.sample,
    cli_sign.privacy,
    cli_sign.keys_group,
    cli_sign.sign,
    cli_portal.login,
    cli_portal.base,
    cli_portal.contribute,
    cli_portal.status,
    cli_portal.models,
    cli_portal.download,
    cli_receipt.receipt,
    cli_audit.audit,
):
    commands.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
