"""
A file of 1 GB from the upload page, in Chromium, against `curl -T` of the same file to the same object store.

The portal runs as `make run` starts it, its SeaweedFS with it; curl gets a presigned PUT to a bucket of its own: one
stream, no checksum, nothing to hash first. The page hashes the file in its worker, announces it, sends the parts and
lets the portal join them. Both rates are told: of sending and joining alone, and of all that the person waits for.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from playwright.sync_api import Browser, Page, expect

from tests.benchmarks.bench_uploads import inside, write_file
from tests.benchmarks.bench_web import report
from tests.chromium import chromium
from tests.running_portal import RunningPortal, running_portal

GOAL = 0.5
LONGEST_MS = 300_000
# The first moment of each state of the page, kept where the next page finds it.
WATCH = """() => {
    const root = document.getElementById("upload");
    new MutationObserver(() => {
        sessionStorage[root.dataset.state] ??= performance.timeOrigin + performance.now();
    }).observe(root, { attributeFilter: ["data-state"] });
}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--size-mib", type=int, default=954, help="954 MiB are 1 GB")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-browser-upload-") as folder, running_portal() as portal:
        path = Path(folder) / "weights.safetensors"
        sha256 = write_file(path, options.size_mib, seed=1)
        with chromium() as browser:
            rounds = [
                (curl(portal, path), page_sends(portal, browser, path, sha256)) for _ in range(options.rounds + 1)
            ]
        return judged(rounds[1:], path.stat().st_size / 1e6)


def curl(portal: RunningPortal, path: Path) -> float:
    """Return the seconds of a PUT; its bucket goes with what it holds."""
    known = portal.environment
    s3 = boto3.client(
        "s3",
        endpoint_url=known["S3_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id=known["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=known["S3_SECRET_ACCESS_KEY"],
    )
    there: Any = {"Bucket": "bench", "Key": path.name}
    s3.create_bucket(Bucket="bench")
    url = s3.generate_presigned_url("put_object", Params=there)
    began = time.perf_counter()
    subprocess.run(["curl", "--silent", "--show-error", "--fail", "-T", str(path), url], check=True)
    seconds = time.perf_counter() - began
    assert s3.head_object(**there)["ContentLength"] == path.stat().st_size
    s3.delete_object(**there)
    s3.delete_bucket(Bucket="bench")
    return seconds


@dataclass
class Waited:
    """Seconds of one upload from the page."""

    hashing: float
    sending: float
    joining: float

    @property
    def after_hashing(self) -> float:
        return self.sending + self.joining

    @property
    def whole(self) -> float:
        return self.hashing + self.after_hashing


def begin() -> list[Any]:
    """Inside the portal: draft a contribution; return its number and a session of its steward."""
    from tests.benchmarks.bench_uploads import drafted
    from tests.benchmarks.motions import session_for

    contribution, steward = drafted()
    return [contribution.pk, session_for(steward)]


def page_sends(portal: RunningPortal, browser: Browser, path: Path, sha256: str) -> Waited:
    """Choose the file on a new draft's page and wait until it has arrived."""
    contribution_id, session = inside(portal, "bench_browser_upload.begin()")
    with browser.new_context(base_url=portal.url) as context:
        context.add_cookies([{"name": "sessionid", "value": session, "url": portal.url}])
        page = context.new_page()
        page.goto(f"/contributions/{contribution_id}/files/")
        page.evaluate(WATCH)
        page.locator("#upload-file").set_input_files(path)
        expect(page.get_by_role("heading", name="The file has arrived")).to_be_visible(timeout=LONGEST_MS)
        found = waited(page)
    assert inside(portal, f"bench_uploads.arrived({contribution_id})") == sha256, "Other bytes arrived."
    return found


def waited(page: Page) -> Waited:
    moments = page.evaluate("() => Object.fromEntries(Object.entries(sessionStorage))")
    hashing, sending, joining, done = (float(moments[name]) for name in ("hashing", "sending", "joining", "done"))
    return Waited((sending - hashing) / 1000, (joining - sending) / 1000, (done - joining) / 1000)


def judged(rounds: list[tuple[float, Waited]], megabytes: float) -> int:
    yardstick = statistics.median(seconds for seconds, _ in rounds)
    phases = [
        statistics.median(getattr(page, name) for _, page in rounds) for name in ("hashing", "sending", "joining")
    ]
    detail = (
        f"n={len(rounds)} {megabytes:.0f} MB: hashed in {phases[0]:.1f} s, sent in {phases[1]:.1f} s, joined in"
        f" {phases[2]:.1f} s; curl {yardstick:.1f} s ({megabytes / yardstick:.0f} MB/s)"
    )
    sending = statistics.median(seconds / page.after_hashing for seconds, page in rounds)
    whole = statistics.median(seconds / page.whole for seconds, page in rounds)
    return max(
        report("upload page's sending / curl -T", sending, GOAL, higher=True, detail=detail),
        report("upload page, hashing and all / curl -T", whole, GOAL, higher=True, detail=f"n={len(rounds)}"),
    )


if __name__ == "__main__":
    sys.exit(main())
