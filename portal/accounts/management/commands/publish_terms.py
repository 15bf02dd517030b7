"""Publish the terms of the site that this release ships."""

from django.core.management.base import BaseCommand
from django.utils import timezone

from portal.accounts import terms


class Command(BaseCommand):
    help = "Publish the versions of the terms of the site in portal/accounts/texts/ that are not published yet."

    def handle(self, *args: object, **options: object) -> None:
        for published in terms.publish_shipped(now=timezone.now()):
            self.stdout.write(f"Published: {published}")
