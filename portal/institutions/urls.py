"""Addresses under /institutions/."""

from django.urls import path

from portal.institutions import applying, casework, files, key_views, people, role_pages, views

app_name = "institutions"
urlpatterns = [
    path("", views.list_, name="list"),
    path("mine/", views.mine, name="mine"),
    path("apply/", applying.apply, name="apply"),
    path("apply/new/", applying.begin, name="begin"),
    path("region/", views.region, name="region"),
    path("reviews/", casework.review_list, name="reviews"),
    path("invitations/code/", people.code, name="invitation_code"),
    path("invitations/<str:secret>/", people.invitation, name="invitation"),
    path("<slug:slug>/", views.show, name="show"),
    path("<slug:slug>/ask/", applying.ask, name="ask"),
    path("<slug:slug>/team/", applying.team, name="team"),
    path("<slug:slug>/edit/", applying.edit, name="edit"),
    path("<slug:slug>/edit/<slug:field>/", applying.save_field, name="save_field"),
    path("<slug:slug>/review/", applying.review, name="review"),
    path("<slug:slug>/submit/", applying.submit, name="submit"),
    path("<slug:slug>/onboarding/", casework.checklist, name="onboarding"),
    path("<slug:slug>/case/", casework.case, name="case"),
    path("<slug:slug>/case/return/", casework.return_, name="return"),
    path("<slug:slug>/case/reviewer/", casework.reassign, name="reassign"),
    path("<slug:slug>/decline/", casework.decline, name="decline"),
    path("<slug:slug>/reopen/", casework.reopen, name="reopen"),
    path("<slug:slug>/appeal/", casework.appeal, name="appeal"),
    path("<slug:slug>/merge/", casework.merge, name="merge"),
    path("<slug:slug>/pathway/", casework.pathway, name="pathway"),
    path("<slug:slug>/documents/", files.announce, name="announce_document"),
    path("<slug:slug>/documents/<int:document_id>/", files.download, name="document"),
    path("<slug:slug>/documents/<int:document_id>/complete/", files.complete, name="complete_document"),
    path("<slug:slug>/withdraw/", views.withdraw, name="withdraw"),
    path("<slug:slug>/keys/", key_views.keys, name="keys"),
    path("<slug:slug>/keys/<int:key_id>/revoke/", key_views.revoke, name="revoke_key"),
    path("<slug:slug>/people/", people.people, name="people"),
    path("<slug:slug>/people/invite/", people.invite, name="invite"),
    path("<slug:slug>/people/roles/", people.add_role, name="add_role"),
    path("<slug:slug>/people/<int:membership_id>/end/", people.end_membership, name="end_membership"),
    path("<slug:slug>/people/hand-over/", people.hand_over, name="hand_over"),
    path("<slug:slug>/people/requests/<int:request_id>/", people.answer_join_request, name="answer_join_request"),
    path("<slug:slug>/invitations/<int:invitation_id>/resend/", people.resend_invitation, name="resend_invitation"),
    path(
        "<slug:slug>/invitations/<int:invitation_id>/withdraw/",
        people.withdraw_invitation,
        name="withdraw_invitation",
    ),
]
audit_urlpatterns = [
    path("roles/", role_pages.history, name="role_history"),
    path("roles.csv", role_pages.csv_, name="role_history_csv"),
]
