from django.urls import path

from contributions import credit_views, embargo_views, hold_views, incident_views, room_views, views

app_name = "contributions"
urlpatterns = [
    path("", views.list_, name="list"),
    path("new/", views.new, name="new"),
    path("room/<slug:slug>/", room_views.show, name="room"),
    path("room/<slug:slug>/requests/<int:pk>/withdraw/", room_views.withdraw, name="room_withdraw"),
    path("room/<slug:slug>/requests/<int:pk>/decide/", room_views.decide, name="room_decide"),
    path("<int:pk>/", views.show, name="show"),
    path("<int:pk>/status/", views.status, name="status"),
    path("<int:pk>/details/", views.edit, name="edit"),
    path("<int:pk>/card/", views.card, name="card"),
    path("<int:pk>/card/fill/", views.fill_card, name="fill_card"),
    path("<int:pk>/files/", views.upload, name="upload"),
    path("<int:pk>/evidence-files/", views.attest, name="attest"),
    path("<int:pk>/files/<int:file_pk>/remove/", views.remove_file, name="remove_file"),
    path("<int:pk>/submit/", views.submit, name="submit"),
    path("<int:pk>/contributors/", credit_views.add, name="add_contributor"),
    path("<int:pk>/contributors/mine/", credit_views.own_line, name="own_line"),
    path("<int:pk>/contributors/<int:contributor_pk>/remove/", credit_views.remove, name="remove_contributor"),
    path("<int:pk>/withdraw/", views.withdraw, name="withdraw"),
    path("<int:pk>/embargo/", embargo_views.change, name="embargo"),
    path("<int:pk>/delete-files/", views.delete_files, name="delete_files"),
    path("<int:pk>/hold/", hold_views.place, name="hold"),
    path("<int:pk>/holds/<int:hold_pk>/release/", hold_views.release, name="release"),
    path("<int:pk>/isolate/", incident_views.isolate, name="isolate"),
    path("<int:pk>/isolations/<int:isolation_pk>/lift/", incident_views.lift, name="lift"),
    path("<int:pk>/isolations/<int:isolation_pk>/delete-files/", incident_views.delete_files, name="incident_delete"),
    path("<int:pk>/replace/", views.replace, name="replace"),
    path("<int:pk>/evidence/<int:evidence_pk>/", views.evidence, name="evidence"),
]
