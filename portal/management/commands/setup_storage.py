"""Create the buckets of the object store."""

from django.core.management.base import BaseCommand

from portal import storage


class Command(BaseCommand):
    help = "Create the buckets that are missing and set their rules. Safe to repeat."

    def handle(self, *args: object, **options: object) -> None:
        storage.ensure_buckets()
