"""Contributions whose checks wait for an operator say so from now on: note those that waited when this came."""

from typing import Any

from django.db import migrations


def note_the_stalled(apps: Any, schema_editor: Any) -> None:
    Contribution, Run = (apps.get_model(*name) for name in (("contributions", "Contribution"), ("jobs", "Run")))
    for contribution in Contribution.objects.filter(status="submitted"):
        newest = Run.objects.filter(kind="validate", subject_id=contribution.pk).order_by("-pk").first()
        if newest is not None and newest.status in {"failed_platform", "timed_out"}:
            Contribution.objects.filter(pk=contribution.pk).update(stalled_at=newest.status_since)


class Migration(migrations.Migration):
    dependencies = [("jobs", "0004_inspection"), ("contributions", "0010_stalled")]

    operations = [migrations.RunPython(note_the_stalled, migrations.RunPython.noop)]
