from django.urls import path

from jobs import views

app_name = "jobs"
urlpatterns = [
    path("", views.list_, name="list"),
    path("<int:pk>/", views.show, name="show"),
    path("<int:pk>/status/", views.status, name="status"),
    path("<int:pk>/cancel/", views.cancel, name="cancel"),
    path("<int:pk>/retry/", views.retry, name="retry"),
    path("of-contribution/<int:pk>/", views.of_contribution, name="of_contribution"),
    path("pretrain/", views.pretrain, name="pretrain"),
    path("evaluate/<slug:slug>/", views.evaluate, name="evaluate"),
]
