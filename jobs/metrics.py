"""Metrics in Prometheus' text format: requests as each process counts them, the rest as the database has it now."""

import os
from collections.abc import Iterator

from django.db.models import Count, Min, Sum
from django.utils import timezone
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from jobs import fixity, workers
from jobs.lifecycle import Status
from jobs.models import Beat, Run, Usage
from portal.notifications.models import OutboxMessage

REQUESTS = Counter("portal_requests", "Requests answered.", ["method", "view", "status"])
SECONDS = Histogram("portal_request_seconds", "Time to answer a request.", ["method"])


def observe(method: str, view: str, status: int, seconds: float) -> None:
    """Count one answered request; `view` is the name of its address, never the address itself."""
    REQUESTS.labels(method, view or "none", str(status)).inc()
    SECONDS.labels(method).observe(seconds)


def exposition() -> bytes:
    """Return all metrics. Where PROMETHEUS_MULTIPROC_DIR is set, the counts of all web processes are added up."""
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)
    else:
        for collector in (REQUESTS, SECONDS):
            registry.register(collector)
    registry.register(FromDatabase())
    return generate_latest(registry)


class FromDatabase(Collector):
    """What the tables say: runs, workers, the scheduler, the outbox, machine time."""

    def collect(self) -> Iterator[Metric]:
        looks = (self._runs, self._oldest, self._workers, self._beats, self._outbox, self._used, self._files)
        yield from (look() for look in looks)

    def _runs(self) -> Metric:
        family = GaugeMetricFamily("portal_runs", "Runs by kind, queue and state.", labels=["kind", "queue", "status"])
        for kind, queue, status, count in (
            Run.objects.order_by().values_list("kind", "queue", "status").annotate(n=Count("pk"))
        ):
            family.add_metric([kind, queue, status], count)
        return family

    def _oldest(self) -> Metric:
        family = GaugeMetricFamily("portal_queue_oldest_seconds", "Age of the oldest waiting run.", labels=["queue"])
        waiting = Run.objects.filter(status=Status.QUEUED).order_by().values_list("queue")
        oldest = dict(waiting.annotate(since=Min("status_since")))
        for queue in Run.Queue.values:
            age = (timezone.now() - oldest[queue]).total_seconds() if queue in oldest else 0
            family.add_metric([queue], age)
        return family

    def _workers(self) -> Metric:
        family = GaugeMetricFamily("portal_workers", "Workers that live.", labels=["queue", "device", "draining"])
        counted: dict[tuple[str, str, str], int] = {}
        for worker in workers.living(now=timezone.now()):
            for queue in worker.queues:
                key = (queue, worker.device, str(worker.draining_at is not None).lower())
                counted[key] = counted.get(key, 0) + 1
        for labels, count in counted.items():
            family.add_metric(list(labels), count)
        return family

    def _beats(self) -> Metric:
        family = GaugeMetricFamily("portal_beat_age_seconds", "Since a periodic task ran last.", labels=["name"])
        for beat in Beat.objects.all():
            family.add_metric([beat.name], (timezone.now() - beat.at).total_seconds())
        return family

    def _outbox(self) -> Metric:
        family = GaugeMetricFamily("portal_outbox_messages", "Mails and webhooks by state.", labels=["state"])
        for state, count in OutboxMessage.objects.order_by().values_list("state").annotate(n=Count("pk")):
            family.add_metric([state], count)
        return family

    def _used(self) -> Metric:
        family = GaugeMetricFamily("portal_gpu_seconds", "GPU-seconds of ended attempts, ever.", labels=["programme"])
        for slug, total in Usage.objects.order_by().values_list("programme__slug").annotate(n=Sum("gpu_seconds")):
            family.add_metric([slug or "none"], total)
        return family

    def _files(self) -> Metric:
        family = GaugeMetricFamily("portal_files_at_fault", "Stored files missing or changed, as last verified.")
        newest = fixity.newest(verification=True)
        family.add_metric([], newest.fault_count if newest else 0)
        return family
