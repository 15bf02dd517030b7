"""What is on record cannot be changed or deleted, by anybody who speaks SQL as the site."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("board", "0001_initial"), ("audit", "0002_append_only")]
    operations = [
        migrations.RunSQL(
            "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON board_vote FOR EACH ROW EXECUTE FUNCTION refuse_change()",
            "DROP TRIGGER append_only ON board_vote",
        ),
        migrations.RunSQL(
            "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON board_recusal FOR EACH ROW EXECUTE FUNCTION refuse_change()",
            "DROP TRIGGER append_only ON board_recusal",
        ),
    ]
