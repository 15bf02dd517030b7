"""What an attempt uses while it runs: samples of the processor, the memory and the GPU, ever further apart."""

import time
from datetime import datetime

import psutil
import pynvml

from jobs import workers
from jobs.models import Run, RunSample

SAMPLES = 400  # of one attempt: about what a strip can show


class Meter:
    """Measures this process and its children; the first reading of a processor is always 0 and is not written."""

    def __init__(self) -> None:
        self._self = psutil.Process()
        self._busy = self._seconds()
        self._began = self._at = time.time()

    def _seconds(self) -> float:
        """Return the processor time of this process, its children, and those it has waited for."""
        total = 0.0
        for process in [self._self, *self._self.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def sample(self, run: Run, *, now: datetime) -> None:
        """Write a sample, unless the last one is so young that a long run would have more than SAMPLES."""
        at = now.timestamp()
        if at - self._at < (at - self._began) / SAMPLES:
            return
        busy = self._seconds()
        percent = 100 * max(0.0, busy - self._busy) / max(0.001, at - self._at)
        self._busy, self._at = busy, at
        RunSample.objects.create(
            run=run, attempt=run.attempt, at=now, cpu_percent=percent, memory_bytes=self._memory(), **_gpu()
        )

    def _memory(self) -> int:
        total = 0
        for process in [self._self, *self._self.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total


def _gpu() -> dict[str, float | int]:
    """Return how busy the busiest GPU is and what is used of its memory; nothing without one."""
    if not workers.device().gpu_count:
        return {}
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(workers.device().gpu_count)]
        return {
            "gpu_percent": max(float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) for handle in handles),
            "gpu_memory_bytes": max(int(pynvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in handles),
        }
    except pynvml.NVMLError:
        return {}
