"""Checking a contribution: the worker moves bytes and verdicts, the sandbox opens the file."""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings

from contributions import services as contributions
from contributions.lifecycle import LIVE
from contributions.models import CheckResult, Contribution, ContributionFile
from contributions.readiness import may_contribute
from governance.board import services as board
from jobs import cache, gather, sandbox, services
from jobs.engine import Attempt, PlatformFault
from jobs.feed import Feed
from jobs.kit import generator
from jobs.lifecycle import Code, Status
from jobs.models import Run
from portal import malware, storage
from portal.institutions import services as institutions

GIB = 2**30
LIMITS = sandbox.Limits(
    wall_seconds=900,
    cpu_seconds=900,
    memory_bytes=4 * GIB,
    output_bytes=4 * 2**20,
    file_bytes=64 * 2**20,
    processes=64,
    scratch_bytes=64 * 2**20,
)
FREE_BYTES = 2 * GIB  # of a worker's disk, whatever is checked
EVIDENCE_BYTES = 8 * 2**20
BY_KIT = set(range(1, 12)) - {3}  # without a word on each that the programme asks for, nothing passes
DRAWN = {8, 9, 10, 11}  # of the images that check 7 draws
LAST_OF_STREAM = 6  # the checks that need one look at the bytes
KEPT = {"samples.png", "neighbours.png", gather.FEATURES}
SCAN_YOURS = (
    "Look for malware on the computer that made the file, and start a corrected contribution with one made on a clean "
    "computer. If you are sure that this is a false alarm, write to the operators: they read what was found here."
)
SEND_YOUR_OWN = "Send what you made yourselves. If the earlier one is yours, it stands already."
FIELDS = {
    "number": int, "name": str, "verdict": str, "sentence": str, "fix": str, "evidence": dict, "duration_seconds": float
}  # fmt: skip
TOO_MUCH = {
    "out_of_memory": "needed more than 4 GiB of memory",
    "timed_out": "took longer than 15 minutes",
    "output_exceeded": "wrote more than the report may hold",
}


def queue_check(contribution: Contribution) -> Run:
    """Queue the checks of a submitted contribution."""
    return services.queue_run(
        Run.Kind.VALIDATE,
        contribution.pk,
        title=f"Check {contribution}",
        inputs=services.inputs_of_check(contribution),
        by=None,
        now=services.now(),
        programme=contribution.programme,
        institution=contribution.institution,
    )


def validate(attempt: Attempt) -> None:
    """Check the files of a contribution and refer it to the board, or reject it with the reason."""
    run = attempt.run
    with services.fenced(run):  # taken for a run that is lost by now, nobody would give it back
        contribution = contributions.begin_validation(run.subject_id, now=services.now())
    if refusal := _agreement(attempt, contribution):
        _reject(attempt, refusal)
        return
    with tempfile.TemporaryDirectory(dir=scratch_folder()) as scratch:
        refusal = _check_files(attempt, contribution, Path(scratch))
    if refusal:
        _reject(attempt, refusal)
        return
    contributions.promote_files(contribution.pk)
    try:
        with services.fenced(run):
            board.refer_contribution(contribution.pk, now=services.now())
            services.succeed(run, result_sha256=_result(run), now=services.now())
    except contributions.FileKnown as known:
        _record(attempt, contribution, _line(0, "transfer", str(known), SEND_YOUR_OWN, evidence={"code": known.code}))
        _reject(attempt, str(known))


def _agreement(attempt: Attempt, contribution: Contribution) -> str:
    """Check 3: the institution may still contribute; return why not, or an empty string. No byte is read before."""
    decision, acting = may_contribute(contribution), institutions.acting_for(contribution.institution)
    sentence = decision.reason or f"The agreement of {contribution.institution} is in force."
    fix = f"Bring an agreement of {acting} for this kind in force, then start a corrected contribution."
    result = {
        "number": 3, "name": "agreement", "verdict": "pass" if decision.allowed else "fail", "sentence": sentence,
        "fix": "" if decision.allowed else fix,
        "evidence": {"code": decision.code}, "duration_seconds": 0.0,
    }  # fmt: skip
    _record(attempt, contribution, result)
    return "" if decision.allowed else sentence


def scratch_folder() -> Path:
    """Return where work keeps what it needs only while it lasts, on this worker's disk."""
    folder = settings.DATA_DIR / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _reject(attempt: Attempt, reason: str) -> None:
    run = attempt.run
    with services.fenced(run):
        contributions.find_invalid(run.subject_id, reason=reason, now=services.now())
        changes = {"error": reason, "result_sha256": _result(run)}
        services.move(run, Status.FAILED_INPUT, now=services.now(), code=Code.REFUSED, **changes)


def _result(run: Run) -> str:
    """Return the hash of the verdicts: two runs of the same code on the same files have the same."""
    rows = CheckResult.objects.filter(contribution_id=run.subject_id, run_id=run.pk, attempt=run.attempt)
    return services.digest(sorted(rows.values_list("number", "name", "verdict")))


def _check_files(attempt: Attempt, contribution: Contribution, scratch: Path) -> str:
    """Run every check on the files; return why they are refused, or an empty string."""
    files = list(contribution.files.order_by("name"))
    if refusal := _scan(attempt, contribution, files):
        return refusal
    given = gather.beside(contribution, files, scratch)
    if contribution.kind == Contribution.Kind.WEIGHTS:
        return _check_weights(attempt, contribution, files[0], given, scratch)
    folder = scratch / "files"
    folder.mkdir()
    paths = {file: folder / f"{number:05d}.tar" for number, file in enumerate(files)}
    if refusal := _fetch(attempt, contribution, paths):
        return refusal
    given |= {"files": folder, "generators": gather.generators(contribution, scratch)}
    command = ["check-images", "--shards", "/in/files", "--generators", "/in/generators"]
    return _in_sandbox(attempt, contribution, command, given, scratch, _expected(contribution))


def _scan(attempt: Attempt, contribution: Contribution, files: list[ContributionFile]) -> str:
    """Look for malware where the operators run a scanner; return why the files are refused, or an empty string."""
    for file in files if malware.is_wanted() else []:
        told = partial(attempt.breathe, total=file.size_bytes, text=f"Looking for malware in {file.name}")
        found = malware.scan(storage.stream(storage.QUARANTINE, file.storage_key), told)
        if found.signature:
            sentence = f"ClamAV finds {sandbox.sanitise(found.signature)} in {file.name}."
            evidence = {"code": "malware", "scanner": malware.scanner(), "file": file.name}
            _record(attempt, contribution, _line(0, "transfer", sentence, SCAN_YOURS, evidence=evidence))
            return sentence
        if found.sha256 != file.sha256:
            return _transfer(attempt, contribution, [(file, found.sha256, found.size_bytes)])
    return ""


def _fetch(attempt: Attempt, contribution: Contribution, paths: dict[ContributionFile, Path]) -> str:
    """Bring files to this disk, hashed on the way; return what is wrong with them, or an empty string."""
    _require_space(sum(file.size_bytes for file in paths))
    arrived = []
    for number, (file, path) in enumerate(paths.items()):
        attempt.progress(number, len(paths), f"Reading {file.name} and its SHA-256")
        sha256 = cache.download(storage.QUARANTINE, file.storage_key, path)
        arrived.append((file, sha256, path.stat().st_size))
    return _transfer(attempt, contribution, arrived)


def _require_space(size_bytes: int) -> None:
    """Leave the disk room for the runs beside this one: a full one would end them all."""
    free = shutil.disk_usage(scratch_folder()).free
    if size_bytes > free - FREE_BYTES:
        raise PlatformFault(
            f"The files have {size_bytes:,} bytes, and this worker's disk has {free:,} left, of which {FREE_BYTES:,} "
            "stay free. Give DATA_DIR a larger disk, or let another worker check them."
        )


def _check_weights(
    attempt: Attempt, contribution: Contribution, file: ContributionFile, given: dict[str, Path], scratch: Path
) -> str:
    """Run the checks up to 6 on the store's stream, and only then bring the file to this disk for those that draw."""
    if generator.load_base(given["base"]).is_adapter:
        return _check_adapter(attempt, contribution, file, given, scratch)
    expected = _expected(contribution)
    refusal = _streamed(attempt, contribution, file, given, scratch, {n for n in expected if n <= LAST_OF_STREAM})
    later = {number for number in expected if number > LAST_OF_STREAM}
    if refusal or not later:
        return refusal
    path = scratch / "file"
    attempt.progress(0, 1, "Fetching the file for the checks that draw from it")
    if cache.download(storage.QUARANTINE, file.storage_key, path) != file.sha256:
        raise PlatformFault(f"The store gave other bytes of {file.name} than a moment ago.")
    command = ["check", "--file", "/in/file", "--name", file.name, "--first", str(LAST_OF_STREAM + 1)]
    return _in_sandbox(attempt, contribution, command, given | {"file": path}, scratch, later)


def _check_adapter(
    attempt: Attempt, contribution: Contribution, file: ContributionFile, given: dict[str, Path], scratch: Path
) -> str:
    """Run the checks on an adapter from a file: it is small, and check 5 looks at it twice."""
    path = scratch / "file"
    if refusal := _fetch(attempt, contribution, {file: path}):
        return refusal
    command = ["check", "--file", "/in/file", "--name", file.name]
    return _in_sandbox(attempt, contribution, command, given | {"file": path}, scratch, _expected(contribution))


def _streamed(
    attempt: Attempt,
    contribution: Contribution,
    file: ContributionFile,
    given: dict[str, Path],
    scratch: Path,
    expected: set[int],
) -> str:
    """The checks that need one look at the bytes: they go through a pipe, hashed here too, and touch no disk."""
    size = storage.size(storage.QUARANTINE, file.storage_key) or 0
    feed = Feed(storage.stream(storage.QUARANTINE, file.storage_key))
    command = ["check", "--file", "/in/stream", "--name", file.name, "--stream-bytes", str(size)]
    command += ["--last", str(LAST_OF_STREAM)]
    held: list[dict[str, Any]] = []
    try:
        # What it finds waits: the bytes may turn out to be others than were declared.
        run = partial(_run, attempt, contribution, command, given, scratch / "read", held.append, stdin=feed.start())
        report = run()
    except BaseException:
        feed.stop()
        raise
    if refusal := _transfer(attempt, contribution, [(file, feed.finish(), feed.size_bytes)]):
        return refusal
    record = partial(_record, attempt, contribution)
    for result in held:
        record(result)
    return _judged(report, expected, record)


def _transfer(attempt: Attempt, contribution: Contribution, arrived: list[tuple[ContributionFile, str, int]]) -> str:
    """Check 0: the bytes that arrived are the bytes declared, and nobody gave them before."""
    began = time.monotonic()
    problems = [_untrue(contribution, *one) for one in arrived]
    sentence, fix = next((problem for problem in problems if problem[0]), ("", ""))
    total = sum(size_bytes for _, _, size_bytes in arrived)
    listed = [{"name": file.name, "size_bytes": size, "sha256": sha256} for file, sha256, size in arrived]
    scanner = malware.scanner()
    evidence = {"size_bytes": total, "files": listed} | ({"scanner": scanner} if scanner else {})
    result = _line(0, "transfer", sentence, fix, evidence=evidence)
    if not sentence:
        clean = " ClamAV found nothing in them." if scanner else ""
        result["sentence"] = f"All {total:,} bytes arrived and their SHA-256 is the declared one.{clean}"
    _record(attempt, contribution, result | {"duration_seconds": time.monotonic() - began})
    return sentence


def _line(number: int, name: str, refusal: str, fix: str, *, evidence: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what a check found, for one that the child does not speak on itself."""
    return {
        "number": number, "name": name, "verdict": "fail" if refusal else "pass", "sentence": refusal, "fix": fix,
        "evidence": evidence or {}, "duration_seconds": 0.0,
    }  # fmt: skip


def _untrue(contribution: Contribution, file: ContributionFile, sha256: str, size_bytes: int) -> tuple[str, str]:
    """Return what is wrong with the bytes of a file and how to mend it, or two empty strings."""
    if (size_bytes, sha256) != (file.size_bytes, file.sha256):
        return (
            f"{file.name} is not the file that was announced: its size or its SHA-256 differs.",
            "Start a corrected contribution and upload the file again; do not change it after it was announced.",
        )
    before = {"contribution__status__in": LIVE, "contribution__submitted_at__lt": contribution.submitted_at}
    if ContributionFile.objects.filter(sha256=sha256, state=ContributionFile.State.VERIFIED, **before).exists():
        return (
            f"{file.name} is, byte for byte, a file of an earlier contribution.",
            SEND_YOUR_OWN,
        )
    return "", ""


def _in_sandbox(
    attempt: Attempt,
    contribution: Contribution,
    command: list[str],
    given: dict[str, Path],
    scratch: Path,
    expected: set[int],
) -> str:
    """Checks by the kit in a child that can reach nothing; return why it refuses, or an empty string."""
    record = partial(_record, attempt, contribution)
    out = scratch / "out"
    report = _run(attempt, contribution, command, given, out, record)
    refusal = _judged(report, expected, record)
    for name, found in sandbox.collect(out, report["files"], max_bytes=EVIDENCE_BYTES).items():
        _keep(attempt, contribution, name, found.read_bytes())
    return refusal


def _run(
    attempt: Attempt,
    contribution: Contribution,
    command: list[str],
    given: dict[str, Path],
    out: Path,
    on_result: Callable[[dict[str, Any]], None],
    *,
    stdin: int | None = None,
) -> dict[str, Any]:
    """Run the kit's child and return what it reported; its results go to `on_result` as they come."""
    out.mkdir(mode=0o777)
    report: dict[str, Any] = {"refusal": "", "files": [], "checks": set(), "ended": False}
    fixed = ["--base-dir", "/in/base", "--out", "/out", "--dossier", "/in/dossier", "--others", "/in/others"]
    report["outcome"] = sandbox.run(
        [sys.executable, "-m", "jobs.kit.child", *command, *fixed],
        read_only=given,
        output_dir=out,
        limits=LIMITS,
        on_line=partial(_on_line, attempt, report, on_result),
        should_stop=attempt.should_stop,
        stdin=stdin,
    )
    attempt.check()
    return report


def _judged(report: dict[str, Any], expected: set[int], record: Callable[[dict[str, Any]], None]) -> str:
    """Return why the child refuses, or an empty string where it spoke on every check that was asked for."""
    outcome = report["outcome"]
    if outcome.kind in TOO_MUCH:
        number = min(expected - report["checks"], default=max(expected))
        sentence = f"Checking it {TOO_MUCH[outcome.kind]}."
        record(_line(number, "limits", sentence, "Send what the kit made, or less of it."))
        return sentence
    if not report["ended"]:
        raise PlatformFault(f"The check ended as {outcome.kind} ({outcome.exit_code}).\n{outcome.stderr_tail[-2000:]}")
    if not report["refusal"] and report["checks"] != expected:
        raise PlatformFault(f"The check ended without a word on {sorted(expected - report['checks'])}.")
    return str(report["refusal"])


def _expected(contribution: Contribution) -> set[int]:
    """Return the numbers of the checks that the kit is to speak on."""
    asked = BY_KIT & set(contribution.programme.checks)
    return asked if 7 in asked else asked - DRAWN


def _on_line(attempt: Attempt, report: dict[str, Any], on_result: Callable[[dict[str, Any]], None], line: str) -> None:
    """Take one line of the child's output: JSON of a known shape, or nothing."""
    try:
        event = json.loads(line)
        kind = event["type"]
    except (ValueError, KeyError, TypeError):
        return
    if kind == "progress":
        attempt.progress(int(event["done"]), int(event["total"]), sandbox.sanitise(str(event["text"])))
    elif kind == "log":
        attempt.log(sandbox.sanitise(str(event["text"])))
    elif kind == "check":
        result = {field: of_type(event[field]) for field, of_type in FIELDS.items()}
        result |= {field: sandbox.sanitise(result[field]) for field in ("name", "sentence", "fix")}
        on_result(result)
        report["checks"].add(result["number"])
        if result["verdict"] == "fail" and not report["refusal"]:
            report["refusal"] = result["sentence"]
    elif kind == "file" and event["name"] in KEPT:
        report["files"].append(event["name"])
    elif kind == "end":
        report["ended"] = True


def _record(attempt: Attempt, contribution: Contribution, result: dict[str, Any]) -> None:
    run = attempt.run
    with services.fenced(run):
        contributions.require_being_checked(contribution.pk)
        contributions.record_check(contribution, run_id=run.pk, attempt=run.attempt, result=result)
    attempt.log(f"{result['verdict']}: {result['name']}: {result['sentence']}")


def _keep(attempt: Attempt, contribution: Contribution, name: str, content: bytes) -> None:
    run = attempt.run
    with services.fenced(run):  # what a worker that lost the run still draws is kept nowhere
        contributions.require_being_checked(contribution.pk)
    contributions.add_evidence(contribution, run_id=run.pk, attempt=run.attempt, name=name, content=content)
