"""Checking a contribution: the worker moves bytes and verdicts, the sandbox opens the file."""

import json
import secrets
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings

from contributions import attestations
from contributions import services as contributions
from contributions.lifecycle import LIVE
from contributions.lifecycle import Status as ContributionStatus
from contributions.models import Contribution, ContributionFile, Evidence
from contributions.readiness import may_contribute
from contributions.reports import accepted_layers
from governance.board import services as board
from jobs import cache, sandbox, services
from jobs.engine import Attempt, PlatformFault
from jobs.lifecycle import Status
from portal import storage
from portal.institutions import signing_keys

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
EVIDENCE_BYTES = 8 * 2**20
BY_KIT = set(range(1, 12)) - {3}  # without a word on each that the programme asks for, nothing passes
DRAWN = {8, 9, 10, 11}  # of the images that check 7 draws
MOST_GENERATORS = 8
FEATURES = "drawn.safetensors"  # as jobs/kit/checks/sites.py writes it
KEPT = {"samples.png", "neighbours.png", FEATURES}
MOST_OTHERS = 200
FIELDS = {
    "number": int, "name": str, "verdict": str, "sentence": str, "fix": str, "evidence": dict, "duration_seconds": float
}  # fmt: skip
TOO_MUCH = {
    "out_of_memory": "needed more than 4 GiB of memory",
    "timed_out": "took longer than 15 minutes",
    "output_exceeded": "wrote more than the report may hold",
}


def validate(attempt: Attempt) -> None:
    """Check the files of a contribution and refer it to the board, or reject it with the reason."""
    run = attempt.run
    contribution = contributions.begin_validation(run.subject_id, now=services.now())
    if refusal := _agreement(attempt, contribution):
        _reject(attempt, refusal)
        return
    with tempfile.TemporaryDirectory(dir=_scratch()) as scratch:
        refusal = _check_files(attempt, contribution, Path(scratch))
    if refusal:
        _reject(attempt, refusal)
        return
    contributions.promote_files(contribution.pk)
    with services.fenced(run):
        board.refer_contribution(contribution.pk, now=services.now())
        services.move(run, Status.FINALISING, now=services.now())
        services.move(run, Status.SUCCEEDED, now=services.now())


def _agreement(attempt: Attempt, contribution: Contribution) -> str:
    """Check 3: the institution may still contribute; return why not, or an empty string. No byte is read before."""
    decision = may_contribute(contribution)
    sentence = decision.reason or f"The agreement of {contribution.institution} is in force."
    result = {
        "number": 3, "name": "agreement", "verdict": "pass" if decision.allowed else "fail", "sentence": sentence,
        "fix": "" if decision.allowed else "Bring the agreement in force, then start a corrected contribution.",
        "evidence": {"code": decision.code}, "duration_seconds": 0.0,
    }  # fmt: skip
    _record(attempt, contribution, result)
    return "" if decision.allowed else sentence


def _scratch() -> Path:
    folder = settings.DATA_DIR / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _reject(attempt: Attempt, reason: str) -> None:
    run = attempt.run
    with services.fenced(run):
        contributions.find_invalid(run.subject_id, reason=reason, now=services.now())
        services.move(run, Status.FAILED_INPUT, now=services.now(), error=reason)


def _check_files(attempt: Attempt, contribution: Contribution, scratch: Path) -> str:
    """Run every check on the files; return why they are refused, or an empty string."""
    folder = scratch / "files"
    folder.mkdir()
    files = list(contribution.files.order_by("name"))
    refusal = _transfer(attempt, contribution, files, folder)
    return refusal or _in_sandbox(attempt, contribution, files, scratch)


def _transfer(attempt: Attempt, contribution: Contribution, files: list[ContributionFile], folder: Path) -> str:
    """Check 0: the bytes that arrived are the bytes declared, and nobody gave them before."""
    began, arrived, size_bytes, problem = time.monotonic(), [], 0, ("", "")
    for number, file in enumerate(files):
        attempt.progress(number, len(files), f"Reading {file.name} and its SHA-256")
        path = folder / _plain_name(file, number)
        sha256 = cache.download(storage.QUARANTINE, file.storage_key, path)
        arrived.append({"name": file.name, "size_bytes": path.stat().st_size, "sha256": sha256})
        size_bytes += path.stat().st_size
        problem = _untrue(contribution, file, sha256, path.stat().st_size)
        if problem[0]:
            break
    sentence, fix = problem
    result = {
        "number": 0, "name": "transfer", "verdict": "fail" if sentence else "pass", "fix": fix,
        "sentence": sentence or f"All {size_bytes:,} bytes arrived and their SHA-256 is the declared one.",
        "evidence": {"size_bytes": size_bytes, "files": arrived}, "duration_seconds": time.monotonic() - began,
    }  # fmt: skip
    _record(attempt, contribution, result)
    return sentence


def _plain_name(file: ContributionFile, number: int) -> str:
    """Return a name of ours for a file in the sandbox; its own is the site's, and told beside it."""
    return "file" if file.contribution.kind == Contribution.Kind.WEIGHTS else f"{number:05d}.tar"


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
            "Send what you made yourselves. If the earlier one is yours, it stands already.",
        )
    return "", ""


def _in_sandbox(attempt: Attempt, contribution: Contribution, files: list[ContributionFile], scratch: Path) -> str:
    """The checks by the kit that the programme asks for, in a child that can reach nothing."""
    assert contribution.base_model is not None  # a database constraint
    expected = _expected(contribution)
    out = scratch / "out"
    out.mkdir(mode=0o777)
    report: dict[str, Any] = {"refusal": "", "files": [], "checks": set(), "ended": False}
    given = {
        "files": scratch / "files",
        "base": cache.base_folder(contribution.base_model),
        "dossier": _dossier(contribution, files, scratch),
        "others": _others(contribution, scratch),
    }
    if contribution.kind == Contribution.Kind.WEIGHTS:
        command = ["check", "--file", "/in/files/file", "--name", files[0].name]
    else:
        command = ["check-images", "--shards", "/in/files", "--generators", "/in/generators"]
        given["generators"] = _generators(contribution, scratch)
    command += ["--base-dir", "/in/base", "--out", "/out", "--dossier", "/in/dossier", "--others", "/in/others"]
    outcome = sandbox.run(
        [sys.executable, "-m", "jobs.kit.child", *command],
        read_only=given,
        output_dir=out,
        limits=LIMITS,
        on_line=partial(_on_line, attempt, contribution, report),
        should_stop=attempt.should_stop,
    )
    attempt.check()
    if outcome.kind in TOO_MUCH:
        report["refusal"] = f"Checking it {TOO_MUCH[outcome.kind]}. Send what the kit made, or less of it."
    elif not report["ended"]:
        raise PlatformFault(f"The check ended as {outcome.kind} ({outcome.exit_code}): {outcome.stderr_tail[-2000:]}")
    elif not report["refusal"] and report["checks"] != expected:
        raise PlatformFault(f"The check ended without a word on {sorted(expected - report['checks'])}.")
    for name, found in sandbox.collect(out, report["files"], max_bytes=EVIDENCE_BYTES).items():
        _keep(attempt, contribution, name, found.read_bytes())
    return report["refusal"]


def _expected(contribution: Contribution) -> set[int]:
    """Return the numbers of the checks that the kit is to speak on."""
    asked = BY_KIT & set(contribution.programme.checks)
    return asked if 7 in asked else asked - DRAWN


def _generators(contribution: Contribution, scratch: Path) -> Path:
    """Gather the institution's checked weights of the same base: images may have been drawn from one of them."""
    folder = scratch / "generators"
    folder.mkdir()
    held = ContributionFile.objects.filter(
        state=ContributionFile.State.VERIFIED,
        contribution__status__in=LIVE,
        contribution__kind=Contribution.Kind.WEIGHTS,
        contribution__institution=contribution.institution,
        contribution__base_model=contribution.base_model,
    )
    for file in held.order_by("-pk")[:MOST_GENERATORS]:
        (folder / f"{file.sha256}.safetensors").hardlink_to(cache.fetch(file.storage_key, file.sha256))
    return folder


def _others(contribution: Contribution, scratch: Path) -> Path:
    """Gather the features of other institutions' accepted images of the same base: check 10 trains with and without."""
    folder = scratch / "others"
    folder.mkdir()
    kept = Evidence.objects.filter(
        name=FEATURES,
        contribution__base_model=contribution.base_model,
        contribution__status=ContributionStatus.APPROVED,
    ).exclude(contribution__institution=contribution.institution)
    newest = {row.contribution_id: row for row in kept.select_related("contribution").order_by("pk")}
    for row in list(newest.values())[-MOST_OTHERS:]:
        name = f"{row.contribution.institution_id}-{row.contribution_id}.safetensors"
        (folder / name).hardlink_to(cache.fetch(row.storage_key, row.sha256))
    return folder


def _dossier(contribution: Contribution, files: list[ContributionFile], scratch: Path) -> Path:
    """Write what came beside the files and what they are held against, as the kit's checks read it."""
    assert contribution.base_model is not None  # as above
    signed, is_weights = attestations.of(contribution), contribution.kind == Contribution.Kind.WEIGHTS
    path = scratch / "dossier.json"
    facts = {
        "sha256": files[0].sha256 if is_weights else contribution.manifest_sha256,  # as check 0 found it
        "salt": secrets.token_hex(8),
        "card": contribution.training_card,
        "signature": signed.get("signature"),
        "privacy": signed.get("privacy"),
        "keys": signing_keys.in_force(contribution.institution),
        "peers": accepted_layers(contribution.base_model) if is_weights else [],
    }
    path.write_text(json.dumps(facts), encoding="utf-8")
    return path


def _on_line(attempt: Attempt, contribution: Contribution, report: dict[str, Any], line: str) -> None:
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
        _record(attempt, contribution, result)
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
        contributions.record_check(contribution, run_id=run.pk, attempt=run.attempt, result=result)
    attempt.log(f"{result['verdict']}: {result['name']}: {result['sentence']}")


def _keep(attempt: Attempt, contribution: Contribution, name: str, content: bytes) -> None:
    run = attempt.run
    contributions.add_evidence(contribution, run_id=run.pk, attempt=run.attempt, name=name, content=content)
