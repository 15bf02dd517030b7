"""Addresses of the live pages' socket."""

from django.urls import path

from jobs.consumers import LiveConsumer

websocket_urlpatterns = [path("ws/live/", LiveConsumer.as_asgi())]
