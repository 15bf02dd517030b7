from django.apps import AppConfig


class CorporaConfig(AppConfig):
    name = "contributions.corpora"
    label = "corpora"
