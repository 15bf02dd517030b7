"""
A browser's upload of a large file against `curl -T` of the same file into the same store.

The page hashes the file first (SHA-256 of the whole and of each part, in a Web Worker) and then sends the parts, four
at a time, each with its checksum signed; curl sends one stream and hashes nothing. Both are told: the sending alone,
and the whole of it. The goal is for the sending; the hashing, which the portal asks for on top, has a line of its own.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.benchmarks.bench_uploads import _inside, write_file
from tests.benchmarks.bench_web import report
from tests.browser.conftest import FLAGS
from tests.running_portal import RunningPortal, running_portal

GOAL = 0.5  # of curl's rate
STEWARD = "steward.ganga@demo.example"
CHROMIUM = "/usr/bin/chromium"
MINUTES = 60_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-browser-") as folder, running_portal() as portal:
        rows = []
        for number in range(options.rounds):  # another file each time: the portal takes each only once
            path = Path(folder) / "weights.safetensors"
            write_file(path, options.size_mib, seed=number)
            rows.append((curl(portal, path, number), *browser(portal, path)))
    by_curl, hashing, sending = (statistics.median(column) for column in zip(*rows, strict=True))
    megabytes = options.size_mib * 2**20 / 1e6
    detail = (
        f"curl {megabytes / by_curl:.0f} MB/s; browser {megabytes / sending:.0f} MB/s sending after {hashing:.1f} s of "
        f"hashing ({megabytes / hashing:.0f} MB/s), {megabytes / (sending + hashing):.0f} MB/s in all"
    )
    code = report("browser over curl -T, rate of sending", by_curl / sending, GOAL, higher=True, detail=detail)
    report("browser over curl -T, hashing included", by_curl / (sending + hashing), GOAL, higher=True, detail="")
    return code


def presigned(number: int) -> str:
    """Return an address to PUT one object to; called inside the portal."""
    from portal import storage

    client: Any = storage._s3()
    given = {"Bucket": storage.bucket_name(storage.QUARANTINE), "Key": f"bench/{number}"}
    return client.generate_presigned_url("put_object", Params=given, ExpiresIn=900)


def curl(portal: RunningPortal, path: Path, number: int) -> float:
    code = f"import json; from tests.benchmarks import bench_browser as b; print(json.dumps(b.presigned({number})))"
    url = portal.manage("shell", "--no-imports", "-c", code).splitlines()[-1].strip('"')
    began = time.perf_counter()
    subprocess.run(["curl", "-fsS", "--noproxy", "*", "-T", str(path), url], check=True)
    return time.perf_counter() - began


def browser(portal: RunningPortal, path: Path) -> tuple[float, float]:
    """Return the seconds of hashing and of sending, as the page goes through them."""
    contribution, _ = _inside(portal, "begin()")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_context(base_url=portal.url).new_page()
        sign_in(page, portal.password)
        page.goto(f"/contributions/{contribution}/files/")
        began = time.perf_counter()
        page.locator("#upload-file").set_input_files(path)
        page.wait_for_selector("#upload[data-state=sending]", timeout=5 * MINUTES)
        hashed = time.perf_counter()
        page.get_by_role("heading", name="The file has arrived").wait_for(timeout=10 * MINUTES)
        ended = time.perf_counter()
        chromium.close()
    return hashed - began, ended - hashed


def sign_in(page: Page, password: str) -> None:
    page.goto("/accounts/login/")
    page.locator("input[name=login]").fill(STEWARD)
    page.locator("input[name=password]").fill(password)
    page.locator("form:has(input[name=login]) button[type=submit]").first.click()
    page.wait_for_url("**/contributions/**|**/institutions/**|**/")


if __name__ == "__main__":
    sys.exit(main())
