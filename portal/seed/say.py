"""Progress of the demonstration on the terminal."""

import time
from collections.abc import Callable
from typing import Any

from django.utils import timezone


class Say:
    """Print steps with the seconds since the start."""

    def __init__(self, out: Any) -> None:
        self._out = out
        self._began = time.monotonic()

    def step(self, text: str) -> None:
        self._out.write(f"  {time.monotonic() - self._began:6.1f} s  {text}")
        self._out.flush()

    done = step

    def wait(self, text: str, is_done: Callable[[], bool], *, seconds: float = 600) -> None:
        """Wait until `is_done`, saying now and then that we wait. Raises TimeoutError."""
        self.step(f"{text} ...")
        deadline, said = time.monotonic() + seconds, time.monotonic()
        while not is_done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{text}: not done after {seconds:.0f} s ({timezone.now():%H:%M:%S}).")
            if time.monotonic() - said > 20:
                self.step(f"{text}: still working")
                said = time.monotonic()
            time.sleep(0.5)
