"""Addresses under /account/ (allauth's are under /accounts/)."""

from django.urls import path

from portal.accounts import address_views, entry, ops, views

app_name = "accounts"
urlpatterns = [
    path("", views.profile, name="profile"),
    path("second-factor/", entry.second_factor, name="second_factor"),
    path("tokens/", views.tokens, name="tokens"),
    path("tokens/<int:token_id>/revoke/", views.revoke_token, name="revoke_token"),
    path("email-code/", address_views.email_code, name="email_code"),
    path("email-code/again/", address_views.send_again, name="send_again"),
    path("device/", views.device, name="device"),
    path("sessions/<int:session_id>/end/", views.end_session, name="end_session"),
]
ops_urlpatterns = [
    path("ops/people/", ops.people, name="people"),
    path("ops/people/appoint/", ops.appoint, name="people_appoint"),
    path("ops/people/roles/<int:role_id>/end/", ops.end_role, name="people_end_role"),
]
terms_urlpatterns = [
    path("terms/", entry.read_terms, name="terms"),
    path("terms/accept/", entry.accept_terms, name="terms_accept"),
    path("terms/<int:version>/", entry.read_terms, name="terms_version"),
]
