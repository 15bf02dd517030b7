"""Give the role of web and workers what it needs, and nothing with which it could change what is on record."""

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from psycopg import sql

# Tables that the role may only add to: those that carry the trigger, so a new one needs no line here.
APPEND_ONLY = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'append_only' ORDER BY 1"
KEPT_BY_TRIGGERS = ["audit_auditpending", "audit_auditnode"]  # read only: triggers write them as the owner
# Nobody chooses these numbers: PostgreSQL lets whoever may insert into the column override GENERATED ALWAYS.
NUMBERED = (
    "SELECT table_name, array_agg(column_name::text) FILTER (WHERE identity_generation IS DISTINCT FROM 'ALWAYS') "
    "FROM information_schema.columns WHERE table_schema = 'public' "
    "GROUP BY table_name HAVING bool_or(identity_generation = 'ALWAYS')"
)
NEVER_DELETED = ["agreements_agreement", "agreements_signingrequest", "board_motion"]
GRANTS = (
    "GRANT USAGE ON SCHEMA public TO {role}",
    "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
    "REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM {role}",
)


class Command(BaseCommand):
    help = "Grant the role of DATABASE_URL its rights; run it, as the owner, after each migration."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--role", default=settings.APP_DATABASE_ROLE)
        parser.add_argument("--migrate", action="store_true", help="Migrate first.")

    def handle(self, *args: object, role: str, migrate: bool, **options: Any) -> None:
        if migrate:
            call_command("migrate", interactive=False, verbosity=options["verbosity"])
        if role == connection.settings_dict["USER"]:
            self.stderr.write(
                f"{role} owns the tables, so nothing keeps the site from changing what is on record. Set "
                "MIGRATE_DATABASE_URL to the owner and DATABASE_URL to another role."
            )
            return
        grant(role)


@transaction.atomic
def grant(role: str) -> None:
    """Grant all rights at once: a reader in between would see the old ones."""
    with connection.cursor() as cursor:
        cursor.execute(APPEND_ONLY)
        tables = [row[0] for row in cursor.fetchall()]
        for command in GRANTS:
            cursor.execute(sql.SQL(command).format(role=sql.Identifier(role)))
        revoked = (("UPDATE, DELETE", tables), ("DELETE", NEVER_DELETED), ("INSERT, UPDATE, DELETE", KEPT_BY_TRIGGERS))
        for rights, names in revoked:
            for name in names:
                revoke = sql.SQL("REVOKE {} ON {} FROM {}")
                cursor.execute(revoke.format(sql.SQL(rights), sql.Identifier(name), sql.Identifier(role)))
        _number_by_the_database(cursor, role)


def _number_by_the_database(cursor: CursorWrapper, role: str) -> None:
    """Let the role add rows to numbered tables without saying which number they get."""
    cursor.execute(NUMBERED)
    for name, columns in cursor.fetchall():
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        table, grantee = sql.Identifier(name), sql.Identifier(role)
        cursor.execute(sql.SQL("REVOKE INSERT ON {} FROM {}").format(table, grantee))
        cursor.execute(sql.SQL("GRANT INSERT ({}) ON {} TO {}").format(names, table, grantee))
