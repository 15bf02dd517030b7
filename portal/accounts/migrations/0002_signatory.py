from django.db import migrations, models

ROLES = [
    ("board_member", "Board member"),
    ("chair", "Chair of the board"),
    ("operator", "Operator"),
    ("auditor", "Auditor"),
    ("signatory", "Signatory of the consortium"),
]


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [
        migrations.AlterField("consortiumrole", "role", models.CharField(choices=ROLES, max_length=20)),
        migrations.RemoveConstraint("consortiumrole", "consortium_role_known"),
        migrations.AddConstraint(
            "consortiumrole",
            models.CheckConstraint(
                condition=models.Q(("role__in", [code for code, _ in ROLES])), name="consortium_role_known"
            ),
        ),
    ]
