"""Terms and their acceptances cannot be changed or deleted; second factors of an earlier version are encrypted."""

from django.db import migrations

from portal.accounts.crypto import encrypt

TABLES = ["accounts_siteterms", "accounts_termsacceptance"]


def encrypt_factors(apps, schema_editor):
    for row in apps.get_model("mfa", "Authenticator").objects.filter(type__in=["totp", "recovery_codes"]):
        field = "secret" if row.type == "totp" else "seed"
        if field in row.data:
            row.data[field] = encrypt(row.data[field])
            row.save(update_fields=["data"])


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_terms_scopes_erasure"),
        ("audit", "0002_append_only"),
        ("mfa", "0003_authenticator_type_uniq"),
    ]
    operations = [
        *(
            migrations.RunSQL(
                f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION refuse_change()",
                f"DROP TRIGGER append_only ON {table}",
            )
            for table in TABLES
        ),
        migrations.RunPython(encrypt_factors, migrations.RunPython.noop),
    ]
