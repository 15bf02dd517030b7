import django.db.models.deletion
from django.db import migrations, models


def drop_those_of_sites(apps, schema_editor):
    """They stopped nothing: no training or evaluation belongs to one institution."""
    apps.get_model("jobs", "Budget").objects.exclude(institution=None).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0006_scanner_away"),
        ("programmes", "0004_headline"),
    ]

    operations = [
        migrations.RunPython(drop_those_of_sites, migrations.RunPython.noop),
        migrations.AlterModelOptions(
            name="budget",
            options={"ordering": ["programme"]},
        ),
        migrations.RemoveConstraint(
            model_name="budget",
            name="one_budget_per_programme_and_site",
        ),
        migrations.RemoveField(
            model_name="budget",
            name="institution",
        ),
        migrations.AlterField(
            model_name="budget",
            name="programme",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="programmes.programme"
            ),
        ),
    ]
