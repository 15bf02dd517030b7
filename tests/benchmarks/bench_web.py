"""
P16, P22 and page times, on the whole portal as `make run` starts it.

P16: requests per second of a trivial Django view under Granian against a bare WSGI function under the same server, and
against the same view under gunicorn's sync workers; wrk, one thread, 16 connections, 2 workers each, alternately.
P22: from the COMMIT of a submission to the check's first transition to `running`, beside a bare round trip to Valkey.
Page times: home, docket and contribution, signed in, median of 20 with one connection.
"""

import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import urllib3

from tests.running_portal import ROOT, RunningPortal, running_portal, wait_until

BIN = Path(sys.executable).parent
ROUNDS = 3
P16_BARE_GOAL, P16_GUNICORN_GOAL = 0.25, 1.5
P22_GOAL_MS = 100.0  # or 10 x a bare round trip, whichever is larger
BARE = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'ok']\n"


def main() -> int:
    wrk = shutil.which("wrk")
    if wrk is None:
        print("wrk is needed for P16 and was not found: `sudo apt-get install wrk`.", file=sys.stderr)
        return 1
    with running_portal() as portal:
        return max(throughput(portal, wrk), latency(portal), pages(portal))


def report(name: str, value: float, goal: float, *, higher: bool, detail: str) -> int:
    passed = value >= goal if higher else value <= goal
    print(f"{name} ratio={value:.2f} goal={'>=' if higher else '<='}{goal} {detail} {'PASS' if passed else 'MISS'}")
    return 0 if passed else 1


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


# P16


@contextmanager
def served(argv: list[str], port: int, environment: dict[str, str], path: str) -> Iterator[str]:
    """Run a server for the length of a `with` block and yield the address to load."""
    server = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}{path}"
    try:
        wait_until(lambda: _answers(url), seconds=30, what=f"an answer of {argv[0]}")
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)


def _answers(url: str) -> bool:
    try:
        return urllib3.request("GET", url, retries=False, timeout=2).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def load(wrk: str, url: str) -> float:
    """Return requests per second."""
    out = subprocess.run([wrk, "-t1", "-c16", "-d2s", url], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert found, out
    return float(found[1])


def throughput(portal: RunningPortal, wrk: str) -> int:
    bare = portal.data_dir / "bare.py"
    bare.write_text(BARE)
    granian = [str(BIN / "granian"), "--interface", "wsgi", "--host", "127.0.0.1", "--workers", "2", "--port"]
    gunicorn = [str(BIN / "gunicorn"), "-w", "2", "-b"]
    environment = {**portal.environment, "PYTHONPATH": f"{portal.data_dir}:{ROOT}"}
    with (
        served([*granian, "18100", "bare:application"], 18100, environment, "/") as bare_url,
        served([*granian, "18101", "portal.wsgi:application"], 18101, environment, "/healthz") as ours_url,
        served([*gunicorn, "127.0.0.1:18102", "portal.wsgi:application"], 18102, environment, "/healthz") as sync_url,
    ):
        rounds = [[load(wrk, url) for url in (bare_url, ours_url, sync_url)] for _ in range(ROUNDS + 1)][1:]
    to_bare = statistics.median(ours / bare for bare, ours, _ in rounds)
    to_sync = statistics.median(ours / sync for _, ours, sync in rounds)
    detail = f"n={ROUNDS} view={statistics.median(ours for _, ours, _ in rounds):.0f}/s"
    return max(
        report("P16 trivial view / bare WSGI", to_bare, P16_BARE_GOAL, higher=True, detail=detail),
        report("P16 Granian / gunicorn sync", to_sync, P16_GUNICORN_GOAL, higher=True, detail=detail),
    )


# P22


def latency(portal: RunningPortal) -> int:
    """Measure inside one process of the portal's own code, so that the clock starts at the COMMIT."""
    out = portal.manage("shell", "-v", "0", "-c", (Path(__file__).parent / "submissions.py").read_text())
    found = json.loads(out.strip().splitlines()[-1])
    starts, round_trip = sorted(found["milliseconds"]), found["round_trip_milliseconds"]
    p99 = starts[-1]  # of few: the worst
    goal = max(P22_GOAL_MS, 10 * round_trip)
    median = statistics.median(starts)
    detail = f"worst={p99:.1f} ms median={median:.1f} ms n={len(starts)} bare round trip={round_trip:.2f} ms"
    return report("P22 commit -> first check running", p99 / goal, 1.0, higher=False, detail=detail)


# Pages


def pages(portal: RunningPortal) -> int:
    """Print the median time of three pages; no goal, the yardstick is the trivial view of the same server."""
    session = portal.manage("shell", "-v", "0", "-c", SESSION).strip().splitlines()[-1]
    contribution = portal.manage("shell", "-v", "0", "-c", NEWEST).strip().splitlines()[-1]
    pool = urllib3.PoolManager(headers={"Cookie": f"sessionid={session}"})
    floor = _median(pool, f"{portal.url}/healthz")
    for name, path in (("home", "/"), ("docket", "/board/"), ("contribution", f"/contributions/{contribution}/")):
        took = _median(pool, portal.url + path)
        print(f"page {name}: {took:.1f} ms, {took / floor:.1f}x the trivial view ({floor:.1f} ms)")
    return 0


SESSION = "from tests.benchmarks.motions import session_of; print(session_of('operator'))"
NEWEST = (
    "from contributions.models import Contribution; print(Contribution.objects.exclude(status='draft').latest('pk').pk)"
)


def _median(pool: urllib3.PoolManager, url: str) -> float:
    def once() -> float:
        began = time.perf_counter()
        answer = pool.request("GET", url, redirect=False)
        assert answer.status == 200, (url, answer.status)
        return (time.perf_counter() - began) * 1000

    return statistics.median([once() for _ in range(23)][3:])


if __name__ == "__main__":
    sys.exit(main())
