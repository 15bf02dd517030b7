from django.urls import path

from governance.board import applicant_views, case_views, views

app_name = "board"
urlpatterns = [
    path("", views.docket, name="docket"),
    path("propose/<slug:slug>/", views.propose, name="propose"),
    path("motions/<int:pk>/", case_views.show, name="motion"),
    path("motions/<int:pk>/declare/", case_views.declare, name="declare"),
    path("motions/<int:pk>/live/", case_views.live, name="live"),
    path("motions/<int:pk>/ballot.ics", case_views.ballot_ics, name="ballot_ics"),
    path("motions/<int:pk>/vote/", case_views.vote, name="vote"),
    path("motions/<int:pk>/tie/", case_views.decide_tie, name="decide_tie"),
    path("motions/<int:pk>/recuse/", case_views.recuse, name="recuse"),
    path("motions/<int:pk>/review/", case_views.review, name="review"),
    path("motions/<int:pk>/comment/", case_views.comment, name="comment"),
    path("motions/<int:pk>/reviewers/", case_views.assign, name="assign"),
    path("motions/<int:pk>/return/", case_views.return_, name="return"),
    path("motions/<int:pk>/take-back/", case_views.take_back, name="take_back"),
    path("motions/<int:pk>/again/", case_views.put_again, name="put_again"),
    path("motions/<int:pk>/nudge/", case_views.nudge, name="nudge"),
    path("motions/<int:pk>/applicant/", applicant_views.show, name="applicant"),
    path("motions/<int:pk>/reply/", applicant_views.reply, name="reply"),
    path("conditions/", applicant_views.conditions, name="conditions"),
    path("conditions/<int:pk>/report/", applicant_views.report, name="report"),
    path("conditions/<int:pk>/settle/", applicant_views.settle, name="settle"),
]
