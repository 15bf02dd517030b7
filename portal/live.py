"""Telling open pages that something changed; they fetch their fragment again."""

import logging

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

logger = logging.getLogger(__name__)


def announce(*names: str) -> None:
    """Tell every page that shows one of `names` ("run-17", "contribution-4") after the current transaction commits."""

    def send() -> None:
        try:
            layer = get_channel_layer()
            for name in names:
                async_to_sync(layer.group_send)(f"live.{name}", {"type": "changed", "name": name})
        except Exception:
            logger.warning("Could not announce %s; open pages poll.", names, exc_info=True)

    transaction.on_commit(send, robust=True)
