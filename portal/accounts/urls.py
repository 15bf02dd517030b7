"""Addresses under /account/ (allauth's are under /accounts/)."""

from django.urls import path

from portal.accounts import address_views, views

app_name = "accounts"
urlpatterns = [
    path("", views.profile, name="profile"),
    path("tokens/", views.tokens, name="tokens"),
    path("tokens/<int:token_id>/revoke/", views.revoke_token, name="revoke_token"),
    path("email-code/", address_views.email_code, name="email_code"),
    path("email-code/again/", address_views.send_again, name="send_again"),
    path("device/", views.device, name="device"),
]
