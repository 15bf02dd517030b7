"""The broker, the database and the object store go away, and come back."""

import threading
import time
from collections import Counter

import urllib3
from django.db import connection
from django.utils import timezone

from contributions.models import Contribution
from jobs.models import Run
from portal import storage
from portal.accounts import services as accounts
from tests.drills import load
from tests.drills.report import counted, figure, percentile
from tests.drills.site import Site, wait_until

BACK_SECONDS = 10.0
PAGES = ("/", "/institutions/", "/models/", "/readyz")


class Reader:
    """Somebody who reads pages all the while, and counts the answers."""

    def __init__(self, url: str) -> None:
        self.answers: Counter[int] = Counter()
        self.well_at = time.monotonic()
        self._url, self._over = url, threading.Event()
        self._http = urllib3.PoolManager(timeout=15, retries=False)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        index = 0
        while not self._over.wait(0.2):
            index += 1
            status = self._http.request("GET", self._url + PAGES[index % len(PAGES)]).status
            self.answers[status] += 1
            if status == 200:
                self.well_at = time.monotonic()


def broker_wiped(site: Site, world: load.World) -> None:
    """Kill the broker in the middle of a check, wipe what it kept, start it again."""
    numbers = load.submit_many(world, 8, drawing_every=4)
    wait_until(load.held, seconds=60, what="A run at work")
    site.hold("valkey")
    for file in (site.data_dir / "valkey").rglob("*.aof"):
        file.unlink()
    for file in (site.data_dir / "valkey").rglob("*.manifest"):
        file.unlink()
    site.release("valkey")
    took = wait_until(lambda: load.settled(numbers), seconds=load.PATIENCE_SECONDS, what="The end of every check")
    print("The broker is killed in mid-task, wiped and started again")
    figure("until everything had finished", f"{took:.1f} s")
    counted(load.count(numbers), contributions=len(numbers))


def broker_down(site: Site, world: load.World, *, count: int) -> None:
    """Submit through the API while the broker is away, then bring it back."""
    rows = [load.draft(world, load.different(world.good)) for _ in range(count)]
    token = accounts.create_token(world.steward, name="drill", now=timezone.now())
    http = urllib3.PoolManager(timeout=30, retries=False)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    http.request("GET", f"{site.url}/api/v1/contributions", headers=headers)
    site.hold("valkey")
    answers: Counter[int] = Counter()
    times = []
    for row in rows:
        began = time.monotonic()
        answer = http.request("POST", f"{site.url}/api/v1/contributions/{row.pk}/submit", headers=headers, body=b"{}")
        times.append(time.monotonic() - began)
        answers[answer.status] += 1
    site.release("valkey")
    numbers = [row.pk for row in rows]
    begun = wait_until(lambda: _begun(numbers), seconds=120, what="The first check after the broker's return")
    print(f"The broker is down, {count} contributions are submitted")
    figure("answers", str(dict(answers)), met=set(answers) <= {200, 201, 202}, goal="accepted")
    figure("to answer, p50", f"{1000 * percentile(times, 0.5):.0f} ms")
    figure(
        "to answer, p99", f"{1000 * percentile(times, 0.99):.0f} ms", met=percentile(times, 0.99) < 0.3, goal="300 ms"
    )
    figure("until all are queued and one begins, after its return", f"{begun:.1f} s", met=begun < 10, goal="10 s")
    wait_until(lambda: load.settled(numbers), seconds=60 + 5 * count, what="The end of every check")
    counted(load.count(numbers), contributions=count)


def _begun(numbers: list[int]) -> bool:
    """Test if every contribution has its run, and one of them has begun."""
    try:
        runs = Run.objects.filter(subject_id__in=numbers)
        return runs.count() >= len(numbers) and runs.filter(started_at__isnull=False).exists()
    finally:
        connection.close()


def away(site: Site, world: load.World, name: str, *, seconds: float) -> None:
    """Kill PostgreSQL or the store in the middle of checks and keep it away for a while."""
    numbers = load.submit_many(world, 6, drawing_every=3)
    wait_until(load.held, seconds=60, what="A run at work")
    with Reader(site.url) as reader:
        site.hold(name)
        time.sleep(seconds)
        during = dict(reader.answers)
        back_at = time.monotonic()
        site.release(name)
        wait_until(_answers, seconds=60, what=f"{name} answers")
        ready_at = time.monotonic()
        wait_until(lambda: reader.well_at > ready_at, seconds=60, what="Pages are well again")
        well = reader.well_at - ready_at
    took = wait_until(lambda: load.settled(numbers), seconds=load.PATIENCE_SECONDS, what="The end of every check")
    print(f"{name} is killed in mid-task and stays away for {seconds:.0f} s")
    figure("answers meanwhile", str(during), met=not any(500 <= code < 503 for code in during), goal="never 500")
    figure("service back after", f"{ready_at - back_at:.1f} s")
    figure("pages back after the service", f"{well:.1f} s", met=well < BACK_SECONDS, goal="10 s")
    figure("until everything had finished", f"{took:.1f} s")
    counted(load.count(numbers), contributions=len(numbers))


def _answers() -> bool:
    """Test if database and store answer this process."""
    try:
        Contribution.objects.exists()
        storage.size(storage.VAULT, "nothing")
        return True
    finally:
        connection.close()
