"""Addresses under /decisions/: the register, for everybody."""

from django.urls import path

from governance.board import register_views as views

app_name = "decisions"
urlpatterns = [
    path("", views.list_, name="list"),
    path("register.csv", views.csv_, name="csv"),
    path("interests/", views.interests, name="interests"),
    path("<int:year>/<int:number>/", views.show, name="show"),
    path("<int:year>/<int:number>/opinion/", views.opinion, name="opinion"),
]
