"""
`make drills`: the whole site from real processes, and what may go wrong with it, done to it.

    python -m tests.drills                     every drill in full
    python -m tests.drills --short             the short form, as in continuous integration
    python -m tests.drills --only kills,soak   some of them
    python -m tests.drills --rabbitmq          20 kills with RabbitMQ as the broker
"""

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

from tests.drills import rabbitmq, report
from tests.drills.site import running_site


def main() -> int:
    parser = argparse.ArgumentParser(prog="drills")
    parser.add_argument("--short", action="store_true", help="fewer kills and jobs")
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--rabbitmq", action="store_true", help="as the broker, where it is installed")
    given = parser.parse_args()
    if given.rabbitmq and not rabbitmq.is_installed():
        print(f"{rabbitmq.SERVER} was not found: `sudo apt-get install rabbitmq-server`.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="drills-", ignore_cleanup_errors=True) as folder:
        data_dir = Path(folder)
        data_dir.chmod(0o711)  # PostgreSQL runs as another user where we are root
        with running_site(data_dir, with_rabbitmq=given.rabbitmq) as site:
            _run(site, given)
    print(f"\n{len(report.failed)} goals missed{': ' + '; '.join(report.failed) if report.failed else ''}")
    return 1 if report.failed else 0


def _run(site, given: argparse.Namespace) -> None:
    # They load models, which need the running site's addresses.
    names = ("children", "kills", "load", "schedule", "services", "soak")
    children, kills, load, schedule, services, soak = (
        importlib.import_module(f"tests.drills.{name}") for name in names
    )
    world = load.make_world()
    few = given.short
    drills = {
        "kills": lambda: kills.kills(site, world, times=given.kills or (12 if few else 20 if given.rabbitmq else 200)),
        "broker_wiped": lambda: services.broker_wiped(site, world),
        "broker_down": lambda: services.broker_down(site, world, count=20 if few else 100),
        "database": lambda: services.away(site, world, "postgres", seconds=5 if few else 20),
        "store": lambda: services.away(site, world, "seaweedfs", seconds=5 if few else 20),
        "children": lambda: children.children(site, world),
        "two_schedulers": lambda: schedule.two_schedulers(site, world),
        "no_scheduler": lambda: schedule.no_scheduler(site),
        "evaluations": lambda: schedule.check_behind_evaluations(site, world),
        "drain": lambda: schedule.drain(site, world),
        "cancel": lambda: schedule.cancelled(site, world, times=3 if few else 20),
        "soak": lambda: soak.soak(site, world, jobs=given.jobs or (60 if few else 1000)),
    }
    wanted = given.only.split(",") if given.only else ["kills"] if given.rabbitmq else drills
    for name in wanted:
        began = time.monotonic()
        drills[name]()
        print(f"  [{name}: {time.monotonic() - began:.0f} s]\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
