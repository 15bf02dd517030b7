"""
The command `consortium`: fit, check, contribute and download from a terminal, also over ssh and in batch jobs.

Results go to standard output (with --json as one document), everything else to standard error. Exit status: 0 done;
1 it cannot be done as asked; 2 the file or the contribution needs changes; 3 a fault of the platform or the network,
try again; 64 the command was typed wrongly (EX_USAGE of sysexits.h); 130 interrupted.
"""

import os
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
from .errors import KitError

WRONG_USAGE = 64
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status; errors are sentences, never tracebacks."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return commands.main(arguments, "consortium", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return WRONG_USAGE
    except click.ClickException as error:
        error.show()
        return WRONG_USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. Run the same command again to go on.", err=True)
        return INTERRUPTED
    except KitError as error:
        return _fail(error, "--json" in arguments)
    except Exception as error:
        if os.environ.get("CONSORTIUM_DEBUG"):
            raise
        sentence = f"Something unexpected happened ({type(error).__name__}: {error})."
        fix = "Set CONSORTIUM_DEBUG=1 and run it again to see where, and tell the consortium."
        return _fail(KitError(sentence, code="unexpected", fix=fix, exit_code=PLATFORM_FAULT), "--json" in arguments)


def _fail(error: KitError, as_json: bool) -> int:
    click.echo(f"Error: {error}", err=True)
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
