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


def recheck(user_id: int) -> None:
    """Let every open page of a person ask again, after the commit, whether it may stay open and what it may follow."""

    def send() -> None:
        try:
            async_to_sync(get_channel_layer().group_send)(f"person.{user_id}", {"type": "recheck"})
        except Exception:
            logger.warning("Could not reach the open pages of person %s.", user_id, exc_info=True)

    transaction.on_commit(send, robust=True)
