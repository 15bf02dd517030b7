"""The places where runs are executed: what they have, whether they live, and how they are asked to stop."""

import logging
import os
import platform
import shutil
import socket
import threading
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pynvml
from billiard import current_process  # Celery's: only its children have a number
from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.db.models import QuerySet

from jobs import _procfs, services
from jobs.lifecycle import ACTIVE, Code
from jobs.models import Run, Worker
from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import NotAllowed
from portal.live import announce

logger = logging.getLogger(__name__)
BEAT_SECONDS = 5.0
SILENT_AFTER = timedelta(seconds=2 * BEAT_SECONDS)  # two missed beats: the pages say so
LIBRARIES = ("torch", "diffusers", "peft", "transformers", "safetensors", "numpy")


@dataclass(frozen=True)
class Device:
    """What a worker computes on."""

    device: str = "cpu"
    driver: str = ""
    gpu_type: str = ""
    gpu_count: int = 0
    gpu_memory_bytes: int = 0


@dataclass
class Node:
    """What this process is within Celery: set before its children are made, and inherited by them."""

    name: str = ""
    queues: tuple[str, ...] = ()
    is_child: bool = False


here = Node()
_registered: dict[int, int] = {}  # pid: its row; a child does not inherit its parent's
_lock = threading.Lock()


def current() -> Worker:
    """Return the row of this process, made when it is first asked for."""
    with _lock:
        worker = Worker.objects.filter(pk=_registered.get(os.getpid(), 0)).first()
        if worker is None:
            worker = register(name=_name(), queues=list(here.queues or Run.Queue.values), now=services.now())
            _registered[os.getpid()] = worker.pk
    return worker


def _name() -> str:
    if not here.is_child:
        return f"{here.name or 'process'}@{socket.gethostname()}/{os.getpid()}"
    return f"{here.name}/{getattr(current_process(), 'index', 0) + 1}"


def register(*, name: str, queues: list[str], now: datetime) -> Worker:
    """
    Put this process in the place of that name. What its predecessor held waits again, for that process is gone.

    Where the predecessor lives, two workers were given one name: this one gets another, and says so.
    """
    facts = {
        "host": socket.gethostname(), "pid": os.getpid(), "process": process_of(os.getpid()), "queues": queues,
        "version": code_version(), "versions": _versions(), "disk_free_bytes": _disk_free(), "started_at": now,
        "seen_at": now, "draining_at": None, "stopping_at": None, "stopped_at": None, **asdict(device()),
    }  # fmt: skip
    return _take_place(name, facts, now=now)


@transaction.atomic
def _take_place(name: str, facts: dict[str, Any], *, now: datetime) -> Worker:
    before = Worker.objects.select_for_update().filter(name=name).first()
    if before is not None and not has_ended(before, now=now):
        logger.error("Two workers are called %s: give each its own name (celery worker -n).", name)
        name, before = f"{name}-{os.getpid()}", None
    if before is not None:
        give_back_all(before, note=f"The process of {before} ended.", code=Code.WORKER_LOST, now=now)
        if before.stopping_at is None and before.stopped_at is None:  # it was killed: whoever drained it still means it
            facts = {**facts, "draining_at": before.draining_at}
    worker, _ = Worker.objects.update_or_create(name=name, defaults=facts)
    announce("runs")
    return worker


def process_of(pid: int) -> str:
    """Return what names one process for ever: the machine's start, the namespace of its numbers, number and start."""
    return f"{_machine()}:{pid}:{_procfs.started_ticks(pid)}"


@cache
def _machine() -> str:
    """Return what names this start of the machine, and the namespace of its process numbers (pid_namespaces(7))."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def has_ended(worker: Worker, *, now: datetime) -> bool:
    """Test if the process of a worker is gone: seen for itself on this machine, by its silence on another."""
    machine, pid, _ = worker.process.rsplit(":", 2)
    if machine != _machine():
        return worker.stopped_at is not None or worker.seen_at < now - services.LEASE
    return process_of(int(pid)) != worker.process


def give_back_all(worker: Worker, *, note: str, code: str, now: datetime) -> None:
    """Put what a worker holds back in the queue, at once."""
    for run in Run.objects.filter(worker=worker, status__in=ACTIVE):
        services.give_back(run, note=note, code=code, now=now, at_once=True)


@cache
def device() -> Device:
    """Return the GPUs of this machine as the driver tells them (NVML; torch need not be loaded), or the processor."""
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        names = [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
        memory = [int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles]
        driver = str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return Device(device=f"cpu ({platform.machine()}, {os.cpu_count()} cores)")
    if not handles:
        return Device(device=f"cpu ({platform.machine()}, {os.cpu_count()} cores)")
    return Device(f"{len(names)} × {names[0]}", driver, names[0][:60], len(names), min(memory))


@cache
def code_version() -> str:
    """Return the version of the portal and a hash of the kit's code: results depend on nothing else of ours."""
    kit = Path(__file__).parent / "kit"
    texts = {path.relative_to(kit).as_posix(): path.read_text() for path in sorted(kit.rglob("*.py"))}
    return f"{settings.VERSION}+kit.{services.digest(texts)[:12]}"


def _versions() -> dict[str, str]:
    libraries = {name: _version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **libraries, "image": settings.IMAGE_DIGEST}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _disk_free() -> int:
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(settings.DATA_DIR).free


def beat(worker_id: int, *, now: datetime) -> None:
    """Show that this worker lives."""
    Worker.objects.filter(pk=worker_id).update(seen_at=now, disk_free_bytes=_disk_free())


def begin() -> None:
    """Register this child of a Celery worker and keep showing that it lives, from a thread of its own."""
    here.is_child = True
    threading.Thread(target=_beat_for_ever, name="worker-beat", daemon=True).start()


def _beat_for_ever() -> None:
    pause = threading.Event()
    while True:
        try:
            beat(current().pk, now=services.now())
            connection.close()
        except Exception:  # the database is away; the pages show this worker as silent meanwhile
            logger.warning("This worker could not show that it lives.", exc_info=True)
            close_old_connections()
        pause.wait(BEAT_SECONDS)


def stop_node(node: str, *, now: datetime) -> None:
    """Note that a Celery worker was asked to end: its children take nothing more and give back what they hold."""
    Worker.objects.filter(name__startswith=f"{node}/", stopped_at=None).update(draining_at=now, stopping_at=now)


def end(*, now: datetime) -> None:
    """Note that this process ends."""
    if os.getpid() in _registered:
        Worker.objects.filter(pk=_registered[os.getpid()]).update(stopped_at=now)


def living(*, now: datetime) -> QuerySet[Worker]:
    """Return the workers that have shown a sign of life lately and were not stopped."""
    return Worker.objects.filter(stopped_at=None, seen_at__gt=now - services.LEASE)


@transaction.atomic
def drain(worker: Worker, *, on: bool, by: User, now: datetime) -> None:
    """Let a worker finish what it holds and take nothing more; or let it take runs again."""
    if not accounts.has_role(by, "operator"):
        raise NotAllowed("Only an operator drains a worker.")
    changes: dict[str, Any] = {"draining_at": now} if on else {"draining_at": None, "stopping_at": None}
    Worker.objects.filter(pk=worker.pk).update(**changes)
    audit.record("worker.drained" if on else "worker.resumed", worker, by=by)
    announce("runs")
