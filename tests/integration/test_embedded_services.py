"""The embedded default with its services: private, durable, stopped without a trace, one supervisor a folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

import boto3
import psutil
import psycopg
import pytest
import redis
import urllib3
from botocore.config import Config
from redis.backoff import NoBackoff
from redis.retry import Retry

from portal.embedded import services, state

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("embedded") / "data"


@pytest.fixture(scope="module")
def running(data_dir: Path) -> Iterator[dict[str, str]]:
    with services.running(data_dir, durable=False) as environment:
        yield environment


def s3(environment: dict[str, str]):
    return boto3.client(
        "s3",
        endpoint_url=environment["S3_ENDPOINT_URL"],
        aws_access_key_id=environment["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["S3_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
    )


def started_below(data_dir: Path) -> list[psutil.Process]:
    """Return the processes whose command line or working folder is in the data folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        words = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
        if process.info["status"] != psutil.STATUS_ZOMBIE and str(data_dir) in " ".join(words):
            found.append(process)
    return found


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.05)


@contextmanager
def supervised(data_dir: Path) -> Iterator[subprocess.Popen]:
    """Run `python -m portal.embedded services` until the services are up; kill it at the end if it still runs."""
    command = [sys.executable, "-m", "portal.embedded", "services"]
    with subprocess.Popen(
        command, cwd=state.REPOSITORY, env={**os.environ, "DATA_DIR": str(data_dir)}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[2].startswith("Services are up."), lines
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_the_database_is_postgresql_18_and_the_site_no_superuser(running):
    with closing(psycopg.connect(running["DATABASE_URL"])) as connection:
        version = connection.info.server_version // 10000
        role = connection.execute("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user").fetchone()
        encoding = connection.execute("SELECT lower('ÀÉ'), current_setting('TimeZone')").fetchone()

    assert (version, role, encoding) == (18, (False, False), ("àé", "UTC"))


def test_the_database_wants_the_password(running):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(running["DATABASE_URL"].replace(":", ":wrong", 2).replace("postgres:wrong", "postgres:"))


def test_valkey_wants_the_password(running):
    with closing(redis.Redis.from_url(running["CACHE_URL"])) as client:
        assert client.ping() is True
        assert client.info("server")["valkey_version"].split(".")[0] == "9"
    port = int(running["CACHE_URL"].rsplit(":", 1)[1].split("/")[0])
    anonymous = redis.Redis(host=state.LOOPBACK, port=port, retry=Retry(NoBackoff(), 0))
    with closing(anonymous), pytest.raises(redis.AuthenticationError):
        anonymous.ping()


def test_no_port_of_the_store_gives_an_object_to_a_stranger(running, data_dir):
    client = s3(running)
    client.create_bucket(Bucket="private")
    client.put_object(Bucket="private", Key="photo", Body=b"x" * 100_000)
    ports = state.read_ports(data_dir)

    def status(port: str, path: str) -> int:
        return urllib3.request("GET", f"http://{state.LOOPBACK}:{ports[port]}{path}", retries=False).status

    volume_files = urllib3.request("GET", f"http://{state.LOOPBACK}:{ports['volume']}/1,01637037d6", retries=False)
    assert status("s3", "/private/photo") == 403
    assert status("s3", "/") == 403
    assert status("filer", "/buckets/private/photo") == 401
    assert volume_files.status == 401


def test_every_service_listens_on_loopback_only(running, data_dir):
    addresses = {
        connection.laddr.ip
        for process in started_below(data_dir)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }

    assert addresses == {"127.0.0.1"}


def test_the_store_sends_no_telemetry(running, data_dir):
    weed = next(process for process in started_below(data_dir) if process.name() == "weed")

    assert "-master.telemetry=false" in weed.cmdline()


def test_no_secret_is_on_a_command_line(running, data_dir):
    secrets = vars(state.read_secrets(data_dir)).values()
    lines = " ".join(" ".join(process.cmdline()) for process in started_below(data_dir))

    assert [secret for secret in secrets if secret in lines] == []


def test_the_database_belongs_to_a_user_of_its_own_when_root_runs_it(running, data_dir):
    owner = 65432 if os.geteuid() == 0 else os.geteuid()
    server = next(process for process in started_below(data_dir) if process.name() == "postgres")

    assert set(server.uids()) == {owner}
    assert {path.stat().st_uid for path in (data_dir / "postgres").rglob("*")} == {owner}


def test_a_second_start_finds_everything_acknowledged_before_a_kill(tmp_path):
    data_dir = tmp_path / "data"
    bodies = [os.urandom(1000 if number % 2 else 3_000_000) for number in range(10)]
    started = services.start(data_dir)
    first = services.environment(data_dir)
    s3(first).create_bucket(Bucket="kept")
    for body in bodies:
        s3(first).put_object(Bucket="kept", Key=sha256(body).hexdigest(), Body=body)
    with closing(psycopg.connect(first["MIGRATE_DATABASE_URL"], autocommit=True)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    services.stop(started, at_once=True)
    assert started_below(data_dir) == []

    with services.running(data_dir) as second:
        listing = s3(second).list_objects_v2(Bucket="kept")["Contents"]
        found = {
            item["Key"]: sha256(s3(second).get_object(Bucket="kept", Key=item["Key"])["Body"].read()).hexdigest()
            for item in listing
        }
        with closing(psycopg.connect(second["MIGRATE_DATABASE_URL"])) as connection:
            answer = connection.execute("SELECT answer FROM kept").fetchone()

    assert second["SECRET_KEY"] == first["SECRET_KEY"]
    assert found == {sha256(body).hexdigest(): sha256(body).hexdigest() for body in bodies}
    assert answer == (42,)
    assert started_below(data_dir) == []


def test_one_supervisor_a_folder_and_ctrl_c_leaves_no_process(tmp_path):
    data_dir = tmp_path / "data"
    with supervised(data_dir) as first:
        second = subprocess.run(
            [sys.executable, "-m", "portal.embedded", "services"],
            cwd=state.REPOSITORY,
            env={**os.environ, "DATA_DIR": str(data_dir)},
            capture_output=True,
            text=True,
        )
        first.send_signal(signal.SIGINT)
        status = first.wait(60)

    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == f"The portal is already running at services only (data folder {data_dir}).\n"
    assert status == 0
    assert started_below(data_dir) == []


def test_a_crashed_service_is_started_again_and_a_killed_supervisor_leaves_no_process(tmp_path):
    data_dir = tmp_path / "data"
    with supervised(data_dir) as supervisor:
        client = redis.Redis.from_url(services.environment(data_dir)["CACHE_URL"])
        os.kill(int((data_dir / "run" / "valkey.pid").read_text().split()[0]), signal.SIGKILL)

        assert supervisor.stdout
        said = supervisor.stdout.readline()
        wait_until(lambda: _answers(client))
        client.close()
        supervisor.kill()
        supervisor.wait()
    log = data_dir / "logs" / "valkey.log"

    assert said == f"valkey ended with status -9; starting it again in 1 s (log: {log})\n"
    wait_until(lambda: started_below(data_dir) == [])


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
