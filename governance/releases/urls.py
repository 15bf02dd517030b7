from django.urls import path

from governance.releases import views

app_name = "releases"
urlpatterns = [
    path("models/", views.list_, name="list"),
    path("models/<slug:slug>/", views.show, name="show"),
    path("models/<slug:slug>/accept/", views.accept, name="accept"),
    path("licences/<str:spdx_id>/", views.license_, name="license"),
    path("dl/<slug:slug>/<str:name>", views.download, name="download"),
]
