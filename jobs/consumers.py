"""One socket per page: it subscribes to names, we say which changed, it fetches its fragment again."""

from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest

from contributions.models import Contribution
from governance.board.models import Motion
from jobs.models import Run
from portal.accounts import services as accounts
from portal.accounts.models import User

MAX_NAMES = 50
SUBJECTS: dict[str, Any] = {"run": Run, "contribution": Contribution, "motion": Motion}


def still_signed_in(user: User, session_key: str) -> bool:
    """Test if the session still signs this person in: it was not ended, and the account is open."""
    request = HttpRequest()
    request.session = SessionStore(session_key)
    return get_user(request) == user


def may_follow(user: User, name: str) -> bool:
    """Test if the person may see the object that `name` ("run-17") stands for."""
    if name == "runs":
        return accounts.is_auditor(user)
    noun, _, pk = name.partition("-")
    if noun not in SUBJECTS or not pk.isdecimal() or len(pk) > 18:
        return False
    return SUBJECTS[noun].objects.visible_to(user).filter(pk=pk).exists()


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """Says `{"changed": name}` for the names that the page subscribed to and its person may see."""

    async def connect(self) -> None:
        self.names: set[str] = set()
        self.own_group = ""
        if not self.scope["user"].is_authenticated:
            await self.close(code=4401)
            return
        self.own_group = f"person.{self.scope['user'].pk}"
        await self.channel_layer.group_add(self.own_group, self.channel_name)
        await self.accept()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        names = content.get("subscribe", []) if isinstance(content, dict) else []
        for name in {str(name) for name in names[:MAX_NAMES]} - self.names:
            if len(self.names) < MAX_NAMES and await database_sync_to_async(may_follow)(self.scope["user"], name):
                self.names.add(name)
                await self.channel_layer.group_add(f"live.{name}", self.channel_name)
        await self.send_json({"subscribed": sorted(self.names)})

    async def disconnect(self, code: int) -> None:
        for name in self.names:
            await self.channel_layer.group_discard(f"live.{name}", self.channel_name)
        if self.own_group:
            await self.channel_layer.group_discard(self.own_group, self.channel_name)

    async def changed(self, event: dict[str, str]) -> None:
        await self.send_json({"changed": event["name"]})

    async def recheck(self, event: dict[str, str]) -> None:
        """The person's roles or sessions changed: close, or follow only what may still be seen."""
        user, session = self.scope["user"], self.scope["session"]
        if not await database_sync_to_async(still_signed_in)(user, session.session_key or ""):
            await self.close(code=4403)
            return
        for name in list(self.names):
            if not await database_sync_to_async(may_follow)(user, name):
                self.names.remove(name)
                await self.channel_layer.group_discard(f"live.{name}", self.channel_name)
        await self.send_json({"subscribed": sorted(self.names)})
