"""What the embedded default remembers in its data folder: generated secrets and the ports it chose."""

import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass, fields
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
LOOPBACK = "127.0.0.1"

# All below 32768, where the kernel starts to hand out ports to outgoing connections.
PREFERRED_PORTS = {
    "web": 8000,
    "live": 8100,
    "postgres": 5632,
    "valkey": 6579,
    "s3": 8433,
    "s3-grpc": 18433,
    "master": 9433,
    "master-grpc": 19433,
    "volume": 8533,
    "volume-grpc": 18533,
    "filer": 8633,
    "filer-grpc": 18633,
}


class NoFreePort(Exception):
    """Two hundred ports in a row were busy."""


@dataclass(frozen=True)
class Secrets:
    """The passwords and keys of one data folder, made at its first start and never printed."""

    secret_key: str
    postgres_superuser_password: str
    postgres_password: str
    postgres_app_password: str
    valkey_password: str
    s3_access_key_id: str
    s3_secret_access_key: str
    weed_jwt_key: str


def data_dir_from_environment() -> Path:
    """Return the data folder: DATA_DIR, or `.data` in the repository."""
    return Path(os.environ.get("DATA_DIR") or REPOSITORY / ".data").expanduser().resolve()


def ensure_data_dir(data_dir: Path) -> None:
    """
    Create the data folder.

    As root it can be passed through (not listed) by others: PostgreSQL refuses to run as root and is another user.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
    for name in ("logs", "run"):
        (data_dir / name).mkdir(exist_ok=True, mode=0o700)


def read_secrets(data_dir: Path) -> Secrets:
    """Return the secrets of `data_dir`, generating those that are not there yet (mode 0600)."""
    path = data_dir / "secrets.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    if missing := {field.name for field in fields(Secrets)} - set(known):
        known |= {name: value for name, value in asdict(_generate_secrets()).items() if name in missing}
        write_private(path, json.dumps(known, indent=2) + "\n")
    return Secrets(**known)


def _generate_secrets() -> Secrets:
    return Secrets(
        secret_key=secrets.token_urlsafe(50),
        postgres_superuser_password=secrets.token_urlsafe(24),
        postgres_password=secrets.token_urlsafe(24),
        postgres_app_password=secrets.token_urlsafe(24),
        valkey_password=secrets.token_urlsafe(24),
        s3_access_key_id=secrets.token_hex(10).upper(),
        s3_secret_access_key=secrets.token_urlsafe(30),
        weed_jwt_key=secrets.token_urlsafe(32),
    )


def write_private(path: Path, text: str) -> None:
    """Write `text` so that no one else can read it, and so that a reader sees all of it or the file of before."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_ports(data_dir: Path) -> dict[str, int]:
    """Return the ports chosen at the last start; empty before the first one."""
    path = data_dir / "ports.json"
    return json.loads(path.read_text()) if path.exists() else {}


def choose_ports(data_dir: Path, names: list[str]) -> dict[str, int]:
    """
    Choose a free loopback port for each of `names` and remember it.

    The port of the last start wins, then the preferred one, then the next free one above it.
    """
    ports = read_ports(data_dir)
    taken = {port for name, port in ports.items() if name not in names}
    for name in names:
        ports[name] = _free_port(name, ports.get(name), taken)
        taken.add(ports[name])
    write_private(data_dir / "ports.json", json.dumps(ports, indent=2) + "\n")
    return ports


def _free_port(name: str, last: int | None, taken: set[int]) -> int:
    preferred = PREFERRED_PORTS[name]
    candidates = [last] if last else []
    candidates += range(preferred, preferred + 200)
    for port in candidates:
        if port not in taken and is_free(port) and not _has_foreign_socket(name, port):
            return port
    raise NoFreePort(f"No free port between {preferred} and {preferred + 199} on {LOOPBACK}.")


def is_free(port: int) -> bool:
    """Test whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: TIME_WAIT does not make a port busy
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _has_foreign_socket(name: str, port: int) -> bool:
    """
    Test whether another user owns the file through which weed's parts would speak to each other on this port.

    `weed server` (4.48) also listens on /tmp/seaweedfs-master-grpc-19433.sock and so on, wherever TMPDIR points; a file
    left by another user cannot be replaced, and one made by another user must not be trusted.
    """
    try:
        return Path(f"/tmp/seaweedfs-{name}-{port}.sock").lstat().st_uid != os.geteuid()
    except FileNotFoundError:
        return False
