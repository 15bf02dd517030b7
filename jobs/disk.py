"""What work leaves on a worker's disk, and when it goes: nothing of an institution stays where nobody looks."""

import logging
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from django.db import close_old_connections, connection

from contributions.models import ContributionFile
from jobs.lifecycle import LIVE
from jobs.models import Run

logger = logging.getLogger(__name__)
TIDY_SECONDS = 3600.0
UNUSED_SECONDS = 24 * 3600.0  # more than any check or sampling takes


def begin() -> None:
    """Keep the disk tidy from a thread of its own: a large folder must not hold up the sign of life."""
    threading.Thread(target=_tidy_for_ever, name="disk-tidy", daemon=True).start()


def _tidy_for_ever() -> None:
    pause = threading.Event()
    while True:
        try:
            tidy()
            connection.close()
        except Exception:  # the database is away, or the disk is; it comes again
            logger.warning("This worker's disk could not be tidied.", exc_info=True)
            close_old_connections()
        pause.wait(TIDY_SECONDS)


def tidy() -> None:
    """
    Remove copies from the vault that nobody used for a day or whose original was deleted, and what ended work left.

    A process that is killed cannot remove its temporary folders, nor a training that was cancelled its checkpoints.
    """
    cache, scratch = settings.DATA_DIR / "cache", settings.DATA_DIR / "scratch"
    copies = list(cache.glob("?" * 64))
    deleted = _deleted({path.name for path in copies})
    for path in copies:
        with suppress(FileNotFoundError):  # another process of this worker was there first
            if path.name in deleted or _age(path.stat().st_atime) > UNUSED_SECONDS:
                path.unlink()
    for folder in (*cache.glob("base-*"), *cache.glob("candidate-*")):  # second names of such copies
        with suppress(FileNotFoundError):
            if _is_unused(folder):
                shutil.rmtree(folder, ignore_errors=True)
    for folder in (*cache.glob("tmp*"), *scratch.glob("tmp*")):
        with suppress(FileNotFoundError):
            if _age(folder.stat().st_mtime) > UNUSED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    for folder in _ended(list(scratch.glob("run-*"))):
        shutil.rmtree(folder, ignore_errors=True)


def _is_unused(folder: Path) -> bool:
    """Test if nobody asked for the weights in a folder for a day: they share their times with the copy."""
    weights = folder / "model.safetensors"
    return _age((weights if weights.exists() else folder).stat().st_atime) > UNUSED_SECONDS


def _age(moment: float) -> float:
    return time.time() - moment


def _deleted(names: set[str]) -> set[str]:
    """Return which of the files, by SHA-256, were deleted from the store and are held by no other contribution."""
    rows = ContributionFile.objects.filter(sha256__in=names)
    gone, held = rows.filter(state=ContributionFile.State.DELETED), rows.exclude(state=ContributionFile.State.DELETED)
    return set(gone.values_list("sha256", flat=True)) - set(held.values_list("sha256", flat=True))


def _ended(folders: list[Path]) -> list[Path]:
    """Return the folders of runs that will not go on."""
    numbers = {folder: int(number) for folder in folders if (number := folder.name.removeprefix("run-")).isdecimal()}
    live = set(Run.objects.filter(pk__in=numbers.values(), status__in=LIVE).values_list("pk", flat=True))
    return [folder for folder, number in numbers.items() if number not in live]
