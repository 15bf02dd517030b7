"""An upload is known by the SHA-256 of its parts; that of the whole file comes when it is complete."""

from typing import Any

from django.db import migrations, models
from django.db.models import F, Q


def know_them_by_their_own(apps: Any, editor: Any) -> None:
    """Of files that are here nobody knows the parts' hash: their own stands for it. Who was sending one begins again."""
    apps.get_model("contributions", "ContributionFile").objects.update(parts_sha256=F("sha256"))


class Migration(migrations.Migration):
    dependencies = [("contributions", "0013_reason_of_a_return")]

    operations = [
        migrations.RemoveConstraint(model_name="contributionfile", name="one_upload_per_hash_and_size"),
        migrations.RemoveConstraint(model_name="contributionfile", name="file_sha256"),
        migrations.AddField(
            model_name="contributionfile",
            name="parts_sha256",
            field=models.CharField(
                default="", max_length=64, help_text="SHA-256 of its parts' SHA-256, one after the other."
            ),
            preserve_default=False,
        ),
        migrations.RunPython(know_them_by_their_own, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="contributionfile",
            name="sha256",
            field=models.CharField(
                blank=True,
                max_length=64,
                help_text="As declared once its parts are here; the worker computes it again.",
            ),
        ),
        migrations.AddConstraint(
            model_name="contributionfile",
            constraint=models.UniqueConstraint(
                fields=("contribution", "parts_sha256", "size_bytes"), name="one_upload_per_hash_and_size"
            ),
        ),
        migrations.AddConstraint(
            model_name="contributionfile",
            constraint=models.CheckConstraint(
                condition=Q(("parts_sha256__regex", "^[0-9a-f]{64}$")), name="file_parts_sha256"
            ),
        ),
        migrations.AddConstraint(
            model_name="contributionfile",
            constraint=models.CheckConstraint(
                condition=Q(("sha256", ""), ("state", "uploading")) | Q(("sha256__regex", "^[0-9a-f]{64}$")),
                name="file_sha256",
            ),
        ),
    ]
