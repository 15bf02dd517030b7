"""Create a programme from its folder, or bring it up to date."""

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from portal.accounts import services as accounts
from portal.accounts.models import User
from portal.blueprint import applying, reading
from portal.blueprint.tables import BlueprintInvalid


class Command(BaseCommand):
    help = (
        "Create a programme (another specialty) from a folder with programme.toml, or bring it up to date. "
        "Applying a folder again changes only what changed; a changed agreement text becomes a new version."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="holds programme.toml; see portal/programmes/blueprints/")
        parser.add_argument("--by", metavar="EMAIL", help="the operator who applies it, for the audit log")
        parser.add_argument("--check", action="store_true", help="only read the folder and say what is wrong with it")

    def handle(self, *args: object, **options: object) -> None:
        folder = Path(str(options["folder"]))
        try:
            if options["check"]:
                self.stdout.write(f"{reading.read(folder).slug}: the folder is in order.")
                return
            done = applying.apply(folder, by=_operator(options["by"]), now=timezone.now())
        except BlueprintInvalid as exc:
            raise CommandError("Nothing was changed.\n" + "\n".join(exc.problems)) from exc
        for line in done or ["Nothing to change: the programme is as the folder says."]:
            self.stdout.write(line)


def _operator(email: object) -> User | None:
    if not email:
        return None
    person = User.objects.filter(email__iexact=str(email)).first()
    if person is None or not accounts.has_role(person, "operator"):
        raise CommandError(f"{email} is not the address of an operator.")
    return person
