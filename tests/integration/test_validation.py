"""The checks of a contribution by a worker: real store, real sandbox, the inputs that people really send."""

import hashlib
import json
import struct
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from safetensors.numpy import load_file, save

from contributions import deletion, services
from contributions.models import Contribution
from contributions.reports import report_of
from governance.board.models import Motion
from jobs import engine, tasks, validate
from jobs import services as runs
from jobs.kit import generator
from jobs.models import Run
from portal import storage
from portal.audit.models import AuditEvent
from portal.notifications.models import Notification
from portal.programmes import services as programmes
from portal.programmes.models import Programme
from tests import factories, tiny_sd
from tests.hostile import honest

pytestmark = pytest.mark.services


def check(contribution: Contribution) -> Contribution:
    """Do what the worker does with the doorbell's two messages."""
    tasks.validate_contribution(contribution_id=contribution.pk)
    engine.execute(work=tasks.WORK)
    contribution.refresh_from_db()
    return contribution


def base_tensors() -> dict[str, tuple[str, list[int], bytes]]:
    """Return name -> (dtype, shape, bytes) of the base generator's file."""
    content = (factories.BASE_FOLDER / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    data = content[8 + length :]
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in header.items()
    }


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())


def with_nan() -> bytes:
    tensors = base_tensors()
    name, (dtype, shape, data) = next(iter(tensors.items()))
    return safetensors(tensors | {name: (dtype, shape, b"\x00\x7e" + data[2:])})


def with_wrong_shape() -> bytes:
    tensors = base_tensors()
    name = next(name for name, (_, shape, _) in tensors.items() if len(shape) > 1)
    dtype, shape, data = tensors[name]
    return safetensors(tensors | {name: (dtype, [shape[1], shape[0], *shape[2:]], data)})


def of_another_architecture() -> bytes:
    return safetensors({"encoder.weight": ("F16", [4, 4], bytes(32))})


def with_a_header_of_99_mb() -> bytes:
    return struct.pack("<Q", 99 * 2**20) + b"{" + b" " * (99 * 2**20 - 1)


BAD = {
    "a .pth": (lambda: b"PK\x03\x04" + bytes(400), "generator.pth", "container"),
    "a truncated file": (lambda: safetensors(base_tensors())[:-1000], "w.safetensors", "container"),
    "NaNs": (with_nan, "w.safetensors", "numerics"),
    "a wrong shape": (with_wrong_shape, "w.safetensors", "schema"),
    "a 0-byte file": (lambda: b"", "w.safetensors", "container"),
    "a header of 99 MB": (with_a_header_of_99_mb, "w.safetensors", "container"),
    "another architecture": (of_another_architecture, "w.safetensors", "schema"),
    "the base itself": (lambda: safetensors(base_tensors()), "w.safetensors", "numerics"),
}


@pytest.mark.parametrize(("content", "name", "failed"), BAD.values(), ids=BAD.keys())
def test_bad_files_are_rejected_with_the_reason_and_never_reach_the_board(institution, content, name, failed):
    contribution = check(factories.submitted_contribution(institution, content(), name=name))
    results = list(contribution.check_results.exclude(name="agreement"))
    run = Run.objects.get(kind=Run.Kind.VALIDATE, subject_id=contribution.pk)
    assert (contribution.status, run.status, results[-1].name) == ("rejected", "failed_input", failed)
    assert contribution.reason == results[-1].sentence == run.error
    assert results[-1].fix != ""
    assert [result.verdict for result in results] == ["pass"] * (len(results) - 1) + ["fail"]
    assert Motion.objects.filter(contribution=contribution).count() == 0
    assert contribution.files.get().size_bytes == len(content())  # nothing is lost


@pytest.mark.django_db(transaction=True)  # as below
def test_a_programme_decides_which_checks_run(institution, board):
    programmes.change(Programme.objects.get(), checks=[0, 1, 4, 5], by=None)
    contribution = check(factories.submitted_contribution(institution, honest()))
    assert contribution.status == "review"
    assert [result.number for result in contribution.check_results.all()] == [0, 1, 3, 4, 5]  # the agreement always


@pytest.mark.django_db(transaction=True)  # the heartbeat has a connection of its own, and must see the run
def test_honest_weights_reach_the_board_with_a_sheet_of_samples(institution, board):
    contribution = check(factories.submitted_contribution(institution, honest()))
    results = list(contribution.check_results.values_list("number", "verdict"))
    assert (contribution.status, results) == (
        "review",
        [(0, "pass"), (1, "pass"), (3, "pass"), (4, "pass"), (5, "pass"), (7, "pass")],
    )
    kept = contribution.evidence_files.values_list("name", flat=True)
    assert sorted(kept) == ["drawn.safetensors", "samples.png"]
    assert Motion.objects.get(contribution=contribution).status == "reviewing"


@pytest.mark.django_db(transaction=True)  # as above
def test_an_adapter_of_a_latent_base_reaches_the_board(institution, board, tmp_path):
    programme = Programme.objects.get()
    programmes.change(programme, checks=[0, 1, 4, 5], by=None)  # random layers draw no photograph
    base = tiny_sd.base()
    programmes.register_base_model(programme, base.folder, by=None, now=timezone.now())
    generator.save_weights(generator.load(base), tmp_path / "fresh")
    rng = np.random.default_rng(7)
    moved = {
        name: values + rng.normal(0, 1e-2, values.shape).astype(values.dtype)
        for name, values in load_file(tmp_path / "fresh").items()
    }
    contribution = check(factories.submitted_contribution(institution, save(moved, metadata={"format": "pt"})))
    assert list(contribution.check_results.values_list("number", "verdict")) == [
        (0, "pass"), (1, "pass"), (3, "pass"), (4, "pass"), (5, "pass"),
    ]  # fmt: skip
    assert contribution.status == "review"
    assert "layers are changed by the adapter" in contribution.check_results.get(number=5).sentence


def test_the_same_file_from_another_institution_is_refused(institution, outsider):
    factories.reviewed_contribution(institution, b"the very same bytes")
    other = outsider.memberships.get().institution
    contribution = check(factories.submitted_contribution(other, b"the very same bytes"))
    assert (contribution.status, contribution.check_results.get(verdict="fail").name) == ("rejected", "transfer")


def test_every_step_of_a_rejection_is_in_the_log(institution):
    contribution = check(factories.submitted_contribution(institution, b""))
    events = AuditEvent.objects.filter(subject_type="contribution", subject_id=contribution.pk).order_by("pk")
    assert list(events.values_list("verb", flat=True)) == [
        "contribution.drafted",
        "contribution.file_added",
        "contribution.file_uploaded",
        "contribution.submitted",
        "contribution.validation_started",
        "contribution.found_invalid",
    ]


def test_a_lost_worker_gives_the_contribution_back(institution):
    contribution = factories.submitted_contribution(institution, b"x")
    tasks.validate_contribution(contribution_id=contribution.pk)
    run = Run.objects.get(kind=Run.Kind.VALIDATE, subject_id=contribution.pk)

    def die(attempt: engine.Attempt) -> None:
        from contributions import services as contributions

        contributions.begin_validation(contribution.pk, now=timezone.now())
        raise MemoryError

    engine.execute(work={Run.Kind.VALIDATE: die})
    contribution.refresh_from_db()
    run.refresh_from_db()
    assert (contribution.status, run.status, run.attempt) == ("submitted", "queued", 1)


def moved(seed: int, *, noise: float = 0.0) -> bytes:
    """Return the base with every number moved as far as a fine-tuning moves it, and by so much noise again."""
    rng, again = np.random.default_rng(seed), np.random.default_rng(9)
    return save(
        {
            name: (value + 3e-3 * rng.standard_normal(value.shape) + noise * again.standard_normal(value.shape)).astype(
                value.dtype
            )
            for name, value in load_file(factories.BASE_FOLDER / "model.safetensors").items()
        }
    )


def test_weights_that_draw_what_anothers_draw_are_refused_without_naming_them(institution, outsider):
    first = check(factories.submitted_contribution(institution, moved(1)))
    services.approve(first.pk, by=None, now=timezone.now())
    elsewhere = outsider.memberships.get().institution
    copied = check(factories.submitted_contribution(elsewhere, moved(1, noise=1e-5)))
    own = check(factories.submitted_contribution(elsewhere, moved(2)))
    again = check(factories.submitted_contribution(institution, moved(1, noise=2e-5)))  # its own, a little on
    sentence = "The file draws what another institution's accepted weights draw from the same seeds."
    assert [(row.status, row.reason) for row in (copied, own, again)] == [
        ("rejected", sentence),
        ("review", ""),
        ("review", ""),
    ]
    [failed] = [row for row in report_of(copied).rows if row.verdict == "fail"]
    assert (failed.number, failed.evidence["code"]) == (7, "draws_anothers")
    assert str(institution) not in json.dumps([failed.sentence, failed.fix, failed.evidence])


def test_declared_hash_is_compared_with_what_arrived(institution):
    contribution = factories.submitted_contribution(institution, b"honest bytes")
    contribution.files.update(sha256=hashlib.sha256(b"other bytes").hexdigest())
    assert check(contribution).check_results.get(number=0).sentence.startswith("weights.safetensors is not the file")


def test_what_is_withdrawn_while_it_is_checked_goes_no_further(institution, steward, monkeypatch):
    contribution, real = factories.submitted_contribution(institution, honest()), validate._check_files

    def check_files(attempt, row, scratch) -> str:
        refusal = real(attempt, row, scratch)
        services.withdraw(row, by=steward, reason="A patient objects.", now=timezone.now())
        return refusal

    monkeypatch.setattr(validate, "_check_files", check_files)
    check(contribution)
    run = Run.objects.get(kind=Run.Kind.VALIDATE, subject_id=contribution.pk)
    assert (contribution.status, contribution.reason) == ("withdrawn", "A patient objects.")
    assert (run.status, run.code) == ("cancelled", "subject_gone")
    assert Motion.objects.filter(contribution=contribution).count() == 0
    file = contribution.files.get()
    assert (file.vault_version, storage.size(storage.VAULT, file.storage_key)) == ("", None)


@pytest.mark.parametrize(
    ("limits", "number", "sentence"),
    [
        ({"wall_seconds": 0.01}, 1, "Checking it took longer than 15 minutes."),
        ({"output_bytes": 600}, 4, "Checking it wrote more than the report may hold."),
    ],
)
def test_a_check_that_takes_too_much_is_a_failed_line_of_the_report(institution, monkeypatch, limits, number, sentence):
    monkeypatch.setattr(validate, "LIMITS", replace(validate.LIMITS, **limits))
    contribution = check(factories.submitted_contribution(institution, honest()))
    [failed] = [row for row in report_of(contribution).rows if row.verdict == "fail"]
    assert (contribution.status, contribution.reason) == ("rejected", sentence)
    assert (failed.number, failed.verdict, failed.sentence) == (number, "fail", sentence)


def test_after_three_faults_an_operator_has_it_and_the_institution_is_told(
    institution, steward, operator, sign_in, monkeypatch
):
    def broken(attempt, row, scratch) -> str:
        raise engine.PlatformFault("The disk is broken.")

    contribution, real = factories.submitted_contribution(institution, honest()), validate._check_files
    monkeypatch.setattr(validate, "_check_files", broken)
    tasks.validate_contribution(contribution_id=contribution.pk)
    for _ in range(runs.MAX_FAULTS):
        assert Contribution.objects.get(pk=contribution.pk).stalled_at is None
        Run.objects.update(not_before=None)
        engine.execute(work=tasks.WORK)
    contribution.refresh_from_db()
    run = Run.objects.get(subject_id=contribution.pk)
    assert (run.status, contribution.status, contribution.stalled_at is None) == ("failed_platform", "submitted", False)
    assert run.error.startswith("Stopped after 3 faults: The disk is broken. This is not your fault;")
    page = sign_in(steward).get(contribution.get_absolute_url()).text
    assert "An operator" in page
    assert "The checks stopped, through no fault of yours." in page
    assert Notification.objects.filter(recipient=steward, subject=f"{contribution} waits for an operator").count() == 1

    monkeypatch.setattr(validate, "_check_files", real)
    runs.retry(run, reason="The disk is mended.", by=operator, now=timezone.now())
    engine.execute(work=tasks.WORK)
    contribution.refresh_from_db()
    assert (contribution.status, contribution.stalled_at) == ("review", None)


def test_only_what_waits_for_its_checks_has_stalled(institution):
    contribution = factories.draft_contribution(institution)
    with pytest.raises(IntegrityError, match="contribution_stalls_in_the_queue"), transaction.atomic():
        Contribution.objects.filter(pk=contribution.pk).update(stalled_at=timezone.now())


def test_where_no_worker_takes_it_for_a_day_an_operator_has_it(institution, steward):
    contribution = factories.submitted_contribution(institution, honest())
    tasks.validate_contribution(contribution_id=contribution.pk)
    runs.end_hopeless(now=timezone.now() + runs.NO_CAPACITY_AFTER + timedelta(seconds=1))
    contribution.refresh_from_db()
    assert (contribution.status, contribution.stalled_at is None) == ("submitted", False)
    assert Notification.objects.filter(recipient=steward, subject=f"{contribution} waits for an operator").count() == 1
    tasks.sweep()
    assert Run.objects.filter(subject_id=contribution.pk).count() == 1


def test_what_is_deleted_while_it_is_copied_leaves_no_copy(institution, steward, monkeypatch):
    contribution, real = factories.submitted_contribution(institution, honest()), storage.promote

    def promote(source, target) -> str:
        """Copy slowly: the files are deleted before the copy is there."""
        storage.put(storage.QUARANTINE, "copies/late", storage.get(*source))
        services.withdraw(contribution, by=steward, reason="A patient objects.", now=timezone.now())
        deletion.ask(contribution, by=steward, now=timezone.now())
        deletion.delete_files(contribution.pk, now=timezone.now())
        return real((storage.QUARANTINE, "copies/late"), target)

    monkeypatch.setattr(storage, "promote", promote)
    check(contribution)
    file = contribution.files.get()
    assert (contribution.status, file.state, file.vault_version) == ("withdrawn", "deleted", "")
    assert storage.size(storage.VAULT, file.storage_key) is None
    storage.delete(storage.QUARANTINE, "copies/late")
