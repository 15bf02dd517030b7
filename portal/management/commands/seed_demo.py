"""Fill an empty portal with the demonstration consortium."""

from django.core.management.base import BaseCommand, CommandParser

from portal.seed import consortium, science
from portal.seed.say import Say


class Command(BaseCommand):
    help = (
        "Fill an empty portal with the demonstration consortium: people and institutions through the services, "
        "contributions through the kit and the API, checks, training and evaluation by the running workers."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--people-only",
            action="store_true",
            help="Stop before anything is trained: people, agreement, base model, data set, tasks, licence.",
        )

    def handle(self, *args: object, **options: object) -> None:
        say = Say(self.stdout)
        people = consortium.seed(say)
        science.register(people, say)
        if not options["people_only"]:
            science.seed(people, say)
        consortium.write_accounts(people)
        say.done("The demonstration consortium is ready.")
