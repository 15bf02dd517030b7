"""`python -m portal.embedded run | services | env`: the portal, or only its services, on this machine."""

import argparse
import sys

from portal.embedded import services, site, supervisor
from portal.embedded.process import ProcessFailed
from portal.embedded.state import NoFreePort, data_dir_from_environment


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m portal.embedded", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("run", help="the whole portal, until Ctrl-C")
    verbs.add_parser("services", help="only PostgreSQL, Valkey and SeaweedFS, until Ctrl-C")
    verbs.add_parser("env", help="print the environment of the last start as lines for a shell")
    verb = parser.parse_args().verb
    data_dir = data_dir_from_environment()
    try:
        if verb == "env":
            return _print_environment()
        return supervisor.run(data_dir, whole_portal=verb == "run")
    except (ProcessFailed, NoFreePort, site.NoSuchSample, supervisor.AlreadyRunning) as error:
        print(error, file=sys.stderr)
        return 1


def _print_environment() -> int:
    data_dir = data_dir_from_environment()
    if not (data_dir / "ports.json").exists():
        print(f"Nothing has run in {data_dir} yet: start it with `make run`.", file=sys.stderr)
        return 1
    print(services.export_lines(services.environment(data_dir)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
