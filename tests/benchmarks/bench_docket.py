"""
The docket with 10,000 motions beside the docket with 50, and the last page of it beside the first.

Read over HTTP, one connection, by the chair, on the portal as `make run` starts it, at the default log level.
"""

import statistics
import sys
import time

import urllib3

from tests.benchmarks.bench_web import p95, report
from tests.running_portal import RunningPortal, running_portal

FEW, MANY = 50, 10_000
LENGTH_GOAL = 2.0  # one page of it, and the number of those that wait for the reader
DEPTH_GOAL = 1.5
ASKED, WARM_UP = 60, 5


def main() -> int:
    with running_portal() as portal:
        session = _inside(portal, "session_of('chair')")
        pool = urllib3.PoolManager(headers={"Cookie": f"sessionid={session}"})
        few = _times(pool, _filled(portal, FEW))
        first = _filled(portal, MANY)
        many, deep = _times(pool, first), _times(pool, f"{first}?after={_inside(portal, 'nearly_last()')}")
    detail = f"n={ASKED} p95 {p95(few):.0f} ms of {FEW}, {p95(many):.0f} ms of {MANY}, at its end {p95(deep):.0f} ms"
    length, depth = (statistics.median(times) / statistics.median(few) for times in (many, deep))
    return max(
        report(f"docket of {MANY} motions / of {FEW}", length, LENGTH_GOAL, higher=False, detail=detail),
        report(f"docket, last page of {MANY} / of {FEW}", depth, DEPTH_GOAL, higher=False, detail=detail),
    )


def _inside(portal: RunningPortal, call: str) -> str:
    code = f"from tests.benchmarks import motions; print(motions.{call})"
    return portal.manage("shell", "--no-imports", "-c", code).splitlines()[-1]


def _filled(portal: RunningPortal, count: int) -> str:
    """Bring the docket to this length and return its address."""
    assert _inside(portal, f"fill({count})") == str(count)
    return f"{portal.url}/board/"


def _times(pool: urllib3.PoolManager, url: str) -> list[float]:
    """Return the milliseconds of each answer, in order of size."""

    def once() -> float:
        began = time.perf_counter()
        answer = pool.request("GET", url, redirect=False)
        assert answer.status == 200, (url, answer.status)
        assert b"Bench Hospital" in answer.data
        return (time.perf_counter() - began) * 1000

    return sorted([once() for _ in range(ASKED + WARM_UP)][WARM_UP:])


if __name__ == "__main__":
    sys.exit(main())
