"""Which side ended an agreement, and until when it is in force after a notice of the consortium."""

from django.db import migrations, models

from portal.agreements.migrations import _guards

BEFORE = _guards.REQUESTS.partition("CREATE TRIGGER")[0].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
AFTER = BEFORE.replace("'ended_at', 'reason']", "'ended_at', 'reason', 'ends_on', 'ended_by']")
assert BEFORE != AFTER


class Migration(migrations.Migration):
    dependencies = [("agreements", "0006_deletion_days")]

    operations = [
        migrations.AddField(
            model_name="signingrequest",
            name="ended_by",
            field=models.CharField(
                blank=True,
                choices=[("institution", "The institution"), ("consortium", "The consortium")],
                help_text="Which side terminated it, or gave notice.",
                max_length=12,
            ),
        ),
        migrations.AddField(
            model_name="signingrequest",
            name="ends_on",
            field=models.DateField(
                blank=True, help_text="The last day, once the consortium has given notice.", null=True
            ),
        ),
        migrations.AddConstraint(
            model_name="signingrequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("ended_by", ""),
                    models.Q(("ended_by__in", ["institution", "consortium"]), models.Q(("reason", ""), _negated=True)),
                    _connector="OR",
                ),
                name="request_ended_by_a_side_with_a_reason",
            ),
        ),
        migrations.AddConstraint(
            model_name="signingrequest",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("ends_on__isnull", True),
                    models.Q(("activated_at__isnull", False), ("ended_by", "consortium")),
                    _connector="OR",
                ),
                name="request_notice_is_of_the_consortium",
            ),
        ),
        migrations.RunSQL(AFTER, BEFORE),
    ]
