"""Addresses under /log/: the transparency log, for everybody."""

from django.urls import path

from portal.audit import public_views as views

app_name = "log"
urlpatterns = [
    path("", views.show, name="show"),
    path("checkpoint", views.latest_note, name="latest"),
    path("checkpoints/", views.checkpoints, name="checkpoints"),
    path("checkpoints/<int:size>", views.note, name="checkpoint"),
    path("hashes", views.leaf_hashes, name="hashes"),
    path("proofs/inclusion", views.inclusion, name="inclusion"),
    path("proofs/consistency", views.consistency, name="consistency"),
]
