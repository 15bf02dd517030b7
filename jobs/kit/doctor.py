"""Look at this machine and its network before a day of work depends on them."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import urllib3

from . import __version__, client, train_extra
from .client import Portal
from .errors import KitError
from .findings import FAILS, HOLDS, NOTE, UNKNOWN, Finding

GIB = 2**30
FREE_BYTES = 5 * GIB  # prepared photographs, a stopped run and the weights of the small base
GPU_BYTES = 11 * GIB  # what fine-tuning the large base with adapters takes; cards sold as 12 GB report a little less
CLOCK_SECONDS = 120  # signed addresses are good for 15 minutes; a clock off by more than this eats into them
PACKAGES = {
    **train_extra.PACKAGES,
    "safetensors": "safetensors",
    "numpy": "numpy",
    "PIL": "pillow",
    "urllib3": "urllib3",
}


def examine(portal: Portal | None, folder: Path) -> list[Finding]:
    """Return everything that was looked at; `portal` None where this machine is not signed in."""
    return [*_machine(folder), *_network(portal)]


def _machine(folder: Path) -> Iterator[Finding]:
    fits = sys.version_info >= (3, 11)
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", HOLDS if fits else FAILS, f"Python {version}; 3.11 or newer is needed.")
    yield Finding("kit", NOTE, f"consortium-kit {__version__}.")
    yield _packages()
    yield _gpu()
    free = shutil.disk_usage(folder).free
    enough = f"{free / GIB:.1f} GiB are free in {folder}; {FREE_BYTES // GIB} are needed."
    yield Finding("disk", HOLDS if free >= FREE_BYTES else FAILS, enough)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("processor", NOTE, f"{cores} cores.")


def _packages() -> Finding:
    there = {name: _version(name) for module, name in PACKAGES.items() if importlib.util.find_spec(module)}
    if missing := sorted({*PACKAGES.values()} - {*there}):
        sentence = f"{', '.join(missing)} missing: fit, sample and privacy need {train_extra.INSTALL}."
        return Finding("packages", UNKNOWN, sentence)
    return Finding("packages", HOLDS, f"{', '.join(f'{name} {version}' for name, version in there.items())}.")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # another one brings the module
        return "(version unknown)"


def _gpu() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("gpu", NOTE, "Not looked at: torch is not installed.")
    try:
        import torch  # noqa: PLC0415 -- slow import
    except Exception as error:  # a library that it lacks, or one of another CUDA
        return Finding("gpu", FAILS, f"torch is installed and cannot be loaded ({type(error).__name__}: {error}).")
    if not torch.cuda.is_available():
        return Finding("gpu", NOTE, "No CUDA device: the small base trains on the processor, in minutes to hours.")
    device = torch.cuda.get_device_properties(0)
    sentence = f"{device.name}, {device.total_memory / GIB:.0f} GiB, CUDA {torch.version.cuda}."
    return Finding("gpu", HOLDS if device.total_memory >= GPU_BYTES else NOTE, sentence)


def _network(portal: Portal | None) -> Iterator[Finding]:
    yield _proxies()
    certificates = client.certificates()
    yield Finding("certificates", NOTE, f"Those in {certificates}." if certificates else "Those that Python brings.")
    if portal is None:
        yield Finding("portal", UNKNOWN, "Not looked at: run `consortium login --url https://…` first.")
        return
    yield from _portal(portal)


def _proxies() -> Finding:
    try:
        proxies = {kind: client.proxy_parts(url) for kind, url in sorted(getproxies().items()) if kind != "no"}
    except KitError as error:
        return Finding("proxy", FAILS, str(error))
    listed = ", ".join(f"{kind} through {parts.netloc.rpartition('@')[2]}" for kind, parts in proxies.items())
    return Finding("proxy", NOTE, f"{listed}." if listed else "None is set.")


def _portal(portal: Portal) -> Iterator[Finding]:
    asked = time.time()
    try:
        answer = portal.request("GET", f"{client.API}base-models")
        bases = portal.read(answer)
    except KitError as error:
        yield Finding("portal", FAILS, str(error))
        return
    yield Finding("portal", HOLDS, f"{portal.url} answers and knows you.")
    yield _clock(answer.headers.get("Date", ""), asked)
    if bases:
        yield _store(portal, bases[0]["download_url"])
    else:
        yield Finding("store", UNKNOWN, "Not looked at: the portal has no base generator, which it would be asked for.")


def _clock(date: str, asked: float) -> Finding:
    try:
        off = abs(parsedate_to_datetime(date).timestamp() - asked)
    except ValueError:
        return Finding("clock", UNKNOWN, "The portal did not tell the time.")
    sentence = f"This clock and the portal's are {off:.0f} s apart; more than {CLOCK_SECONDS} s breaks uploads."
    return Finding("clock", HOLDS if off <= CLOCK_SECONDS else FAILS, sentence)


def _store(portal: Portal, download_url: str) -> Finding:
    """Ask the object store itself: a proxy that lets the portal through may not let its store through."""
    location = ""
    try:
        answer = portal.request("GET", urlsplit(portal.absolute(download_url)).path)
        location = answer.headers.get("Location", "")
        if not location:  # no agreement yet, for instance: nothing of the store's
            why = f"Not looked at, for the portal gives no address there: {portal.problem(answer)}"
            return Finding("store", UNKNOWN, why)
        with client.http(location).request(
            "GET", location, headers={"Range": "bytes=0-0"}, retries=False, redirect=False, preload_content=False
        ) as reply:
            status = reply.status
    except KitError as error:
        return Finding("store", FAILS, str(error))
    except urllib3.exceptions.HTTPError as error:
        return Finding("store", FAILS, str(client.unreachable(location, error)))
    verdict = HOLDS if status in {200, 206} else FAILS
    return Finding(
        "store", verdict, f"{urlsplit(location).netloc} answers {status}: files go there, and come from there."
    )
