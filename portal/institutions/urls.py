"""Addresses under /institutions/."""

from django.urls import path

from portal.institutions import people, views

app_name = "institutions"
urlpatterns = [
    path("", views.list_, name="list"),
    path("mine/", views.mine, name="mine"),
    path("apply/", views.apply, name="apply"),
    path("region/", views.region, name="region"),
    path("invitations/<str:secret>/", people.invitation, name="invitation"),
    path("<slug:slug>/", views.show, name="show"),
    path("<slug:slug>/edit/", views.edit, name="edit"),
    path("<slug:slug>/review/", views.review, name="review"),
    path("<slug:slug>/submit/", views.submit, name="submit"),
    path("<slug:slug>/withdraw/", views.withdraw, name="withdraw"),
    path("<slug:slug>/people/", people.people, name="people"),
    path("<slug:slug>/people/invite/", people.invite, name="invite"),
    path("<slug:slug>/people/roles/", people.add_role, name="add_role"),
    path("<slug:slug>/people/<int:membership_id>/end/", people.end_membership, name="end_membership"),
    path(
        "<slug:slug>/invitations/<int:invitation_id>/withdraw/",
        people.withdraw_invitation,
        name="withdraw_invitation",
    ),
]
