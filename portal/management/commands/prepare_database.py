"""Bring the database up to this release: tables, rights, then the texts that it ships."""

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.utils import timezone

from portal.accounts import terms


class Command(BaseCommand):
    help = "As the owner: migrate, grant the rights of the role of the site, publish new terms. Safe to repeat."

    def handle(self, *args: object, **options: object) -> None:
        call_command("grant_rights", migrate=True, stdout=self.stdout, stderr=self.stderr)
        for published in terms.publish_shipped(now=timezone.now()):
            self.stdout.write(f"Published: {published}")
