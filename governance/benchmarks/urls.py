from django.urls import path

from governance.benchmarks import views

app_name = "benchmarks"
urlpatterns = [
    path("", views.leaderboard, name="leaderboard"),
    path("evaluations/<int:pk>/", views.evaluation, name="evaluation"),
]
