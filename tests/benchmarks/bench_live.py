"""
P21: the progress of a run to 1,000 open pages, beside a bare loop under the same server.

Both are one Granian process; the clients, all in this process, are the same. A round is one broadcast by each, from
the call to the arrival at the last client; ours begins with the update in the database and passes through Valkey.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

from portal.embedded.state import is_free
from tests.benchmarks.bench_web import report
from tests.drills.site import Site, running_site, wait_until

ROUNDS = 11
GOAL = 4.0  # BENCHMARKS.md, P21
AT_ONCE = 50  # connections that are being opened
LONGEST_SECONDS = 30.0


class Pages:
    """Clients that are told something; how many were, and when the last was."""

    def __init__(self) -> None:
        self.sockets: list[ClientConnection] = []
        self._told, self._last = 0, 0.0
        self._readers: list[asyncio.Task[None]] = []

    async def open(self, url: str, count: int, *, first: str = "", **headers: str) -> None:
        """Open `count` sockets; each says `first` and is answered before the next step."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def one() -> ClientConnection:
            async with slots:
                socket = await connect(
                    url, additional_headers=headers, compression=None, ping_interval=None, proxy=None, open_timeout=60
                )
                if first:
                    await socket.send(first)
                    assert json.loads(await socket.recv())["subscribed"]
                return socket

        self.sockets = await asyncio.gather(*(one() for _ in range(count)))
        self._readers = [asyncio.create_task(self._read(socket)) for socket in self.sockets]

    async def _read(self, socket: ClientConnection) -> None:
        async for _ in socket:
            self._told, self._last = self._told + 1, time.perf_counter()

    async def broadcast(self, send: Callable[[], Awaitable[object]]) -> tuple[float, int]:
        """Return the milliseconds until the last client was told, and how many were not."""
        self._told = 0
        began = time.perf_counter()
        await send()
        while self._told < len(self.sockets) and time.perf_counter() - began < LONGEST_SECONDS:
            await asyncio.sleep(0.001)
        return 1000 * (self._last - began), len(self.sockets) - self._told

    async def close(self) -> None:
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*(socket.close() for socket in self.sockets))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    count = parser.parse_args().clients
    with tempfile.TemporaryDirectory(prefix="bench-live-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user where we are root
        with running_site(folder) as site:
            return _measured(site, count)


def _measured(site: Site, count: int) -> int:
    from django.conf import settings
    from django.test import Client
    from django.utils import timezone

    from jobs.models import Run
    from portal.accounts.models import User
    from tests import factories, runs

    site.hold("worker-gpu")
    operator: User = factories.consortium_person("Olu Operator", "operator")
    browser = Client()
    browser.force_login(operator)
    cookie = f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}"
    held = runs.running()
    Run.objects.filter(pk=held.pk).update(lease_expires_at=timezone.now() + timedelta(hours=1))  # nobody renews it here
    live = site.programs["live"]
    at = live.argv.index("--port") + 1
    port, bare_port = live.argv[at], str(int(live.argv[at]) + 500)
    bare = (*live.argv[:at], bare_port, "tests.benchmarks.bare_live:application")
    site.add(replace(live, name="bare", argv=bare))
    wait_until(lambda: not is_free(int(bare_port)), seconds=30, what="The bare program")
    addresses = [f"ws://127.0.0.1:{port}/ws/live/", f"ws://127.0.0.1:{bare_port}/"]
    return asyncio.run(_rounds(count, held, *addresses, {"Cookie": cookie, "Origin": site.url}))


async def _rounds(count: int, held, live: str, bare: str, headers: dict[str, str]) -> int:
    from django.utils import timezone

    from jobs import services

    ours, raw = Pages(), Pages()
    await ours.open(live, count, first=json.dumps({"subscribe": [f"run-{held.pk}"]}), **headers)
    await raw.open(bare, count)

    async def progress() -> None:
        await asyncio.to_thread(services.progress, held, done=1, total=2, text="Half", now=timezone.now())

    pairs = []
    for _ in range(ROUNDS + 1):
        pairs.append((await ours.broadcast(progress), await raw.broadcast(lambda: raw.sockets[0].send("go"))))
    await ours.close()
    await raw.close()
    lost = sum(missed for (_, missed), _ in pairs)
    ratio = statistics.median(our / bare for (our, _), (bare, _) in pairs[1:])
    medians = [statistics.median(pair[side][0] for pair in pairs[1:]) for side in (0, 1)]
    sent = count * len(pairs)
    return max(
        report(
            "progress to the last open page / bare loop", ratio, GOAL, higher=False,
            detail=f"n={ROUNDS} {count} pages, {medians[0]:.0f} ms, bare {medians[1]:.0f} ms",
        ),
        report("messages lost", lost, 0, higher=False, detail=f"of {sent}"),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
