"""Load ROR's public data dump into the local copy."""

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection

from portal.institutions import registry


class Command(BaseCommand):
    help = (
        "Replace the local copy of the Research Organization Registry by a data dump (schema version 2: the zip, or "
        "the JSON in it). The portal fetches nothing itself."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("dump", type=Path, help="the dump's .zip or .json file")

    def handle(self, *args: object, **options: object) -> None:
        path = Path(str(options["dump"]))
        try:
            count = registry.replace(registry.organisations(registry.read_dump(path)))
        except (OSError, ValueError, LookupError, DatabaseError) as exc:
            raise CommandError(f"{path} cannot be read as a ROR dump: {exc}. The old copy stays.") from exc
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE institutions_rororganisation")
        self.stdout.write(f"{count:,} organisations loaded.")
