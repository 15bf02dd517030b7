"""What the board's services hold to, held by the database too."""

from django.db import migrations

from governance.board.migrations._guards import APPEND_ONLY, BALLOT, BALLOT_BACK, MOTION, MOTION_BACK


def append_only(table):
    return migrations.RunSQL(
        f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON board_{table} "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()",
        f"DROP TRIGGER append_only ON board_{table}",
    )


class Migration(migrations.Migration):
    dependencies = [("board", "0007_rules_of_motions"), ("accounts", "0006_terms_of_seats")]
    operations = [
        migrations.RunSQL(BALLOT, BALLOT_BACK),
        migrations.RunSQL(MOTION, MOTION_BACK),
        *(append_only(table) for table in APPEND_ONLY),
    ]
