"""Motions of before: their rule in the new words, their programme, the arithmetic of the closed ones, their numbers."""

from django.db import migrations

THRESHOLDS = {50: "majority", 66: "two_thirds", 67: "two_thirds"}
CLOSED = ["carried", "lost", "lapsed"]


def carry_over(apps, schema_editor):
    Motion = apps.get_model("board", "Motion")
    for motion in Motion.objects.select_related("contribution", "release__candidate"):
        if motion.contribution is not None:
            motion.programme_id = motion.contribution.programme_id
        elif motion.release is not None:
            motion.programme_id = motion.release.candidate.programme_id
        motion.electorate = "programme" if motion.programme_id else "consortium"
        motion.quorum_floor, motion.quorum_percent = motion.quorum, 0
        motion.threshold = THRESHOLDS.get(motion.threshold_percent, "unanimous")
        if motion.status in CLOSED:
            motion.arithmetic = _arithmetic(apps, motion)
        motion.save()
    _number(apps)


def _arithmetic(apps, motion):
    """Return what the audit log holds of the count with which a motion closed."""
    events = apps.get_model("audit", "AuditEvent").objects.filter(
        subject_type="motion", subject_id=motion.pk, verb=f"motion.{motion.status}"
    )
    event = events.first()
    facts = event.facts if event is not None else {}
    counted = {name: facts.get(name, 0) for name in ("votes_for", "votes_against", "abstentions", "eligible")}
    result = "no_quorum" if motion.status == "lapsed" else motion.status
    rest = {"recused": motion.recusals.count(), "quorum": motion.quorum, "threshold": motion.threshold}
    return {"result": result, **counted, **rest, "per_institution": False}


def _number(apps):
    Decision = apps.get_model("board", "Decision")
    last = {}
    for motion in apps.get_model("board", "Motion").objects.filter(status__in=CLOSED).order_by("closed_at", "pk"):
        year = motion.closed_at.year
        last[year] = last.get(year, 0) + 1
        Decision.objects.create(motion=motion, year=year, number=last[year], decided_at=motion.closed_at)


class Migration(migrations.Migration):
    dependencies = [("board", "0005_cases_and_meetings"), ("audit", "0002_append_only")]
    operations = [migrations.RunPython(carry_over, migrations.RunPython.noop)]
