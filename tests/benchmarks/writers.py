"""Run by `manage.py shell`: eight clients commit a change with and without its event, and print what each took."""

import json
import multiprocessing
import time

from django.db import connection, transaction
from django.utils import timezone

from portal.accounts.models import User
from portal.audit import services as audit
from portal.audit.models import AuditPending

CLIENTS, CHANGES, ROUNDS = 8, 250, 5  # changes of each client in each round
people = list(User.objects.order_by("pk").values_list("pk", flat=True)[:CLIENTS])
assert len(people) == CLIENTS
connection.close()
connection.close_pool()  # its threads do not survive a fork


def change(person: User, number: int, *, recorded: bool) -> float:
    """Commit one change of a row of its own; return the milliseconds."""
    began = time.perf_counter()
    with transaction.atomic():
        User.objects.filter(pk=person.pk).update(last_login=timezone.now())
        if recorded:
            audit.record("token.created", person, by=person, number=number)
    return (time.perf_counter() - began) * 1000


def client(place: int, start: multiprocessing.Barrier, took: multiprocessing.Queue) -> None:
    """Commit in turns of both kinds, all clients at once; the first turn warms up."""
    person = User.objects.get(pk=people[place])
    for turn in range(2 * (ROUNDS + 1)):
        start.wait()
        began = time.perf_counter()
        each = [change(person, number, recorded=turn % 2 == 1) for number in range(CHANGES)]
        took.put((turn, time.perf_counter() - began, each))


def measured() -> dict[int, tuple[float, list[float]]]:
    """Return of each turn the seconds of the slowest client, and the milliseconds of every change."""
    start, took = multiprocessing.Barrier(CLIENTS), multiprocessing.Queue()
    clients = [
        multiprocessing.Process(target=client, args=(place, start, took), daemon=True) for place in range(CLIENTS)
    ]
    for process in clients:
        process.start()
    found: dict[int, tuple[float, list[float]]] = {}
    for _ in range(CLIENTS * 2 * (ROUNDS + 1)):
        turn, seconds, each = took.get(timeout=120)
        slowest, all_of_them = found.get(turn, (0.0, []))
        found[turn] = max(slowest, seconds), all_of_them + each
    for process in clients:
        process.join()
    return found


def sequenced_after() -> float:
    """Return how many seconds the sequencer still needs until every event is in the tree."""
    began = time.perf_counter()
    while AuditPending.objects.exists():
        assert time.perf_counter() - began < 120, "the sequencer does not come to an end"
        time.sleep(0.05)
    return time.perf_counter() - began


def main() -> None:
    found = measured()
    behind = sequenced_after()
    turns = [found[turn] for turn in range(2, 2 * (ROUNDS + 1))]
    print(json.dumps({"changes": CLIENTS * CHANGES, "bare": turns[::2], "recorded": turns[1::2], "behind": behind}))


main()
