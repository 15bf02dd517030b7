"""Give rows of before what the new rules ask for: a reason code, a first round, one role of two that exclude each other."""

from datetime import timedelta

from django.db import migrations
from django.utils import timezone

FIELDS = ["name", "local_name", "ror_id", "country", "city", "kind", "website", "image_count", "gpu", "expertise",
          "images_may_leave", "synthetic_may_leave", "weights_may_leave", "regulation_note", "ethics_reference"]
SENT = ["applied", "member", "declined"]
OUTCOMES = {"applied": "open", "member": "admitted", "declined": "declined"}


def carry_over(apps, schema_editor):
    institutions = apps.get_model("institutions", "Institution").objects
    reviews = apps.get_model("institutions", "Review").objects
    institutions.filter(status="declined").update(decision_code="board_vote")
    institutions.filter(status="declined", decision_reason="").update(decision_reason="No reason was recorded.")
    for row in institutions.filter(status__in=SENT):
        first = row.memberships.order_by("pk").first()
        if first is None:
            continue
        reviews.create(
            institution=row, number=1, snapshot={name: getattr(row, name) for name in FIELDS},
            sent_at=row.status_since, sent_by_id=first.user_id, target_on=(row.status_since + timedelta(days=7)).date(),
            outcome=OUTCOMES[row.status], ended_at=None if row.status == "applied" else row.status_since,
            code=row.decision_code, note=row.decision_reason,
        )
    institutions.exclude(status__in=["draft", "withdrawn"]).update(round=1)
    _end_the_official_who_leads(apps)


def _end_the_official_who_leads(apps):
    """Who led and signed at once goes on leading; the signature of before stays."""
    memberships = apps.get_model("institutions", "Membership").objects.filter(ended_at__isnull=True)
    for row in memberships.filter(role="signing_official"):
        if memberships.filter(user=row.user_id, institution=row.institution_id, role="principal_investigator").exists():
            row.ended_at = timezone.now()
            row.save(update_fields=["ended_at"])


class Migration(migrations.Migration):

    dependencies = [
        ('institutions', '0002_onboarding_case'),
    ]

    operations = [migrations.RunPython(carry_over, migrations.RunPython.noop)]
