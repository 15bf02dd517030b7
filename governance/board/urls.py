from django.urls import path

from governance.board import views

app_name = "board"
urlpatterns = [
    path("", views.docket, name="docket"),
    path("decisions/", views.decisions, name="decisions"),
    path("motions/<int:pk>/", views.motion, name="motion"),
    path("motions/<int:pk>/vote/", views.vote, name="vote"),
    path("motions/<int:pk>/recuse/", views.recuse, name="recuse"),
    path("propose/<slug:slug>/", views.propose, name="propose"),
]
