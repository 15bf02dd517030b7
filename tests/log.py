"""What the audit log says happened, in order."""

from django.db import models

from portal.audit.models import AuditEvent
from portal.institutions.models import Institution


def verbs_of(subject: models.Model) -> list[str]:
    """Return what happened to one object, without the noun: `submitted`, `approved`."""
    events = AuditEvent.objects.filter(subject_type=subject._meta.model_name, subject_id=subject.pk).order_by("pk")
    return [event.verb.partition(".")[2] for event in events]


def verbs_in_file(institution: Institution) -> list[str]:
    """Return everything that is filed under an institution."""
    rows = AuditEvent.objects.filter(institution_id=institution.pk).order_by("pk")
    return list(rows.values_list("verb", flat=True))
