from django.urls import path

from governance.board import (
    applicant_views,
    case_views,
    meeting_views,
    people_views,
    proposal_views,
    rule_views,
    views,
)

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
    path(
        "releases/<slug:slug>/answers/<slug:institution_slug>/", applicant_views.answer_release, name="answer_release"
    ),
    path("meetings/", meeting_views.list_, name="meetings"),
    path("meetings/call/", meeting_views.call, name="call_meeting"),
    path("meetings/<int:pk>/", meeting_views.show, name="meeting"),
    path("meetings/<int:pk>/meeting.ics", meeting_views.ics, name="meeting_ics"),
    path("meetings/<int:pk>/answer/", meeting_views.answer, name="answer"),
    path("meetings/<int:pk>/agenda/", meeting_views.agenda, name="agenda"),
    path("meetings/<int:pk>/minutes/", meeting_views.minutes, name="minutes"),
    path("meetings/<int:pk>/cancel/", meeting_views.cancel, name="cancel_meeting"),
    path("members/", people_views.members, name="members"),
    path("interests/", people_views.interests, name="interests"),
    path("interests/<int:pk>/end/", people_views.end_interest, name="end_interest"),
    path("rules/", rule_views.list_, name="rules"),
    path("rules/<slug:kind>/", rule_views.edit, name="rule"),
    path("new/", proposal_views.choose, name="choose"),
    path("new/<slug:kind>/", proposal_views.propose, name="new"),
    path("conditions/", applicant_views.conditions, name="conditions"),
    path("conditions/<int:pk>/report/", applicant_views.report, name="report"),
    path("conditions/<int:pk>/settle/", applicant_views.settle, name="settle"),
]
