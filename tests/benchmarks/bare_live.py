"""The yardstick of the live pages: a bare ASGI program that sends one message to every socket when one asks for it."""

from typing import Any

MESSAGE = {"type": "websocket.send", "text": '{"changed": "run-1"}'}
sockets: set[Any] = set()


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    sockets.add(send)
    try:
        while (await receive())["type"] == "websocket.receive":
            for other in list(sockets):
                await other(MESSAGE)
    finally:
        sockets.discard(send)
