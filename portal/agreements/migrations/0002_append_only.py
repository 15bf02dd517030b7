"""What is on record cannot be changed or deleted, by anybody who speaks SQL as the site."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("agreements", "0001_initial"), ("audit", "0002_append_only")]
    operations = [
        migrations.RunSQL(
            "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON agreements_agreementversion FOR EACH ROW EXECUTE FUNCTION refuse_change()",
            "DROP TRIGGER append_only ON agreements_agreementversion",
        ),
        migrations.RunSQL(
            "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON agreements_signature FOR EACH ROW EXECUTE FUNCTION refuse_change()",
            "DROP TRIGGER append_only ON agreements_signature",
        ),
    ]
