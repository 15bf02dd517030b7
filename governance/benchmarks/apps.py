from django.apps import AppConfig


class BenchmarksConfig(AppConfig):
    name = "governance.benchmarks"
    label = "benchmarks"
