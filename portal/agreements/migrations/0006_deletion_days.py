"""In how many days the files of a withdrawn contribution go: read from the texts that say so."""

from django.db import migrations, models

SQL = r"""
ALTER TABLE agreements_agreementversion DISABLE TRIGGER append_only;
UPDATE agreements_agreementversion SET deletion_days =
    (regexp_match(text, 'deletes its\s+files\s+from\s+storage\s+within\s+([1-9]\d{0,2})\s+days'))[1]::int;
ALTER TABLE agreements_agreementversion ENABLE TRIGGER append_only;
"""


class Migration(migrations.Migration):
    dependencies = [("agreements", "0005_guards")]

    operations = [
        migrations.AddField(
            model_name="agreementversion",
            name="deletion_days",
            field=models.PositiveSmallIntegerField(
                blank=True,
                help_text="In which the files of a withdrawn contribution go. Empty: it says nothing.",
                null=True,
            ),
        ),
        migrations.RunSQL(SQL, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name="agreementversion",
            constraint=models.CheckConstraint(
                condition=models.Q(("deletion_days", 0), _negated=True), name="agreement_leaves_time_to_delete"
            ),
        ),
    ]
