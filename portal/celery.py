"""The Celery application. PostgreSQL holds the truth; Celery is the doorbell."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
app = Celery("portal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["jobs"])
app.autodiscover_tasks(["jobs"], related_name="hooks")  # Celery's own signals
