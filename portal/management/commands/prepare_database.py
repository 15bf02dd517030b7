"""Bring the database up to this release: tables, then the texts that it ships."""

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.utils import timezone

from portal.accounts import terms


class Command(BaseCommand):
    help = "Migrate the database and publish the terms of the site that are not published yet. Safe to repeat."

    def handle(self, *args: object, **options: object) -> None:
        call_command("migrate", interactive=False, stdout=self.stdout)
        for published in terms.publish_shipped(now=timezone.now()):
            self.stdout.write(f"Published: {published}")
