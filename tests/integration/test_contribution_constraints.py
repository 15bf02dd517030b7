"""What the database refuses about contributions: each constraint broken once, past the services."""

from datetime import date

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from contributions import services
from contributions.lifecycle import Status
from contributions.models import CheckResult, Contribution, ContributionFile, Evidence
from tests import contributing

# Constraints: each broken once, past the services


@pytest.mark.parametrize(
    ("status", "broken", "constraint"),
    [
        ("draft", {"status": "accepted"}, "contribution_status_known"),
        ("draft", {"submitted_at": timezone.now()}, "contribution_submitted_at_iff_by"),
        ("submitted", {"manifest_sha256": ""}, "contribution_submitted_once_past_draft"),
        ("draft", {"status": "review"}, "contribution_submitted_once_past_draft"),
        ("approved", {"decided_at": None}, "contribution_decided_iff_decision"),
        ("review", {"decided_at": timezone.now()}, "contribution_decided_iff_decision"),
        ("rejected", {"reason": ""}, "contribution_rejected_with_reason"),
        ("draft", {"base_model": None}, "contribution_names_its_base"),
        ("draft", {"embargo_until": date(2099, 1, 1)}, "contribution_embargo_ends_in_time"),
    ],
)
def test_the_database_holds_a_contribution_to_its_rules(at_status, status, broken, constraint):
    contribution = at_status(status)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Contribution.objects.filter(pk=contribution.pk).update(**broken)


def test_the_database_knows_one_live_contribution_of_the_same_files(at_status):
    first, second = at_status(Status.SUBMITTED), at_status(Status.SUBMITTED, b"other")
    with pytest.raises(IntegrityError, match="one_live_contribution"), transaction.atomic():
        Contribution.objects.filter(pk=second.pk).update(manifest_sha256=first.manifest_sha256)


@pytest.mark.parametrize(
    ("broken", "constraint"),
    [
        ({"sha256": "not a digest"}, "file_sha256"),
        ({"sha256": ""}, "file_sha256"),
        ({"parts_sha256": "not a digest"}, "file_parts_sha256"),
        ({"state": "uploading"}, "file_uploaded_at_iff_uploaded"),
        ({"uploaded_at": None}, "file_uploaded_at_iff_uploaded"),
    ],
)
def test_the_database_holds_a_file_to_its_rules(at_status, broken, constraint):
    file = at_status(Status.SUBMITTED).files.get()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        ContributionFile.objects.filter(pk=file.pk).update(**broken)


@pytest.mark.parametrize(
    ("changed", "constraint"),
    [({"name": "b"}, "one_upload_per_hash_and_size"), ({"parts_sha256": "b" * 64}, "one_file_per_name")],
)
def test_the_database_knows_a_file_once(draft, changed, constraint):
    row = {"name": "a", "size_bytes": 1, "parts_sha256": "a" * 64, "upload_id": "u", "part_size_bytes": 1}
    ContributionFile.objects.create(contribution=draft, storage_key="a", **row)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        ContributionFile.objects.create(contribution=draft, storage_key="b", **{**row, **changed})


@pytest.mark.parametrize(
    ("broken", "constraint"),
    [
        ({"verdict": "fine"}, "check_verdict_known"),
        ({"duration_seconds": -1.0}, "check_duration_not_negative"),
        ({"number": 0}, "one_result_per_check_and_attempt"),
    ],
)
def test_the_database_holds_a_result_to_its_rules(at_status, broken, constraint):
    contribution = at_status(Status.VALIDATING)
    contributing.check(contribution, 0, "pass")
    row = contributing.check(contribution, 1, "pass")
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        CheckResult.objects.filter(pk=row.pk).update(**broken)


@pytest.mark.parametrize(
    ("broken", "constraint"), [({"sha256": ""}, "evidence_sha256"), ({"name": "a.png"}, "one_evidence_per_name")]
)
def test_the_database_holds_evidence_to_its_rules(at_status, broken, constraint):
    contribution = at_status(Status.VALIDATING)
    rows = [
        services.add_evidence(contribution, run_id=1, attempt=1, name=name, content=b"png")
        for name in ("a.png", "b.png")
    ]
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Evidence.objects.filter(pk=rows[1].pk).update(**broken)
