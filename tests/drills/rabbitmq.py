"""RabbitMQ in the broker's place, where the machine has it (Debian: rabbitmq-server)."""

from pathlib import Path

import amqp

from portal.embedded.process import Program
from portal.embedded.state import LOOPBACK, is_free

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in /usr/sbin becomes another user
FIRST_PORT = 28_600
NAME = "rabbitmq"


def is_installed() -> bool:
    return SERVER.exists()


def program(data_dir: Path) -> tuple[Program, str]:
    """Return how to start a node of its own folder, on loopback only, and its address for Celery."""
    folder = data_dir / NAME
    folder.mkdir(mode=0o700)
    port, distribution = [port for port in range(FIRST_PORT, FIRST_PORT + 200) if is_free(port)][:2]
    environment = {
        "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(folder), "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_EPMD_PORT": str(distribution + 200), "RABBITMQ_NODENAME": "drill@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK, "RABBITMQ_NODE_PORT": str(port), "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"), "RABBITMQ_LOG_BASE": str(folder / "log"), "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"), "RABBITMQ_CONFIG_FILE": str(folder / "none"),
    }  # fmt: skip
    argv = (str(SERVER),)
    return Program(name=NAME, argv=argv, cwd=folder, env=environment), f"amqp://guest:guest@{LOOPBACK}:{port}//"


def answers(address: str) -> bool:
    """Test if a client can sign in."""
    host = address.rsplit("@", 1)[1].strip("/")
    try:
        with amqp.Connection(host, connect_timeout=2):
            return True
    except (OSError, amqp.AMQPError):
        return False
