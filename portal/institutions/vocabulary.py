"""Lists that the profile chooses from."""

from django.db import models

UNKNOWN = "unknown"
UNKNOWN_CHOICE = (UNKNOWN, "Not known yet")


class Role(models.TextChoices):
    """What a person does in an institution."""

    PRINCIPAL_INVESTIGATOR = "principal_investigator", "Principal investigator"
    STEWARD = "steward", "Data steward"
    SIGNING_OFFICIAL = "signing_official", "Signing official"
    MEMBER = "member", "Member"


class Pathway(models.TextChoices):
    """The three kinds of contribution, the one that moves the least patient data first."""

    WEIGHTS = "weights", "Weights"
    SYNTHETIC = "synthetic", "Synthetic images"
    IMAGES = "images", "De-identified photographs"


class OptionList(models.TextChoices):
    """Lists of the profile whose answers a specialty brings."""

    CARE_SETTINGS = "care_settings", "Where the images are taken"
    LABELS = "labels", "Diseases with labels"


class LegalBasis(models.TextChoices):
    APPROVAL = "approval", "Approval of an ethics committee"
    WAIVER = "waiver", "Waiver of an ethics committee"
    CONSENT = "consent", "Consent of the patients"
    OTHER = "other", "Another basis"
    UNKNOWN = UNKNOWN_CHOICE


# What every specialty answers; the answers of its own come with its programme (options.py).
COMMON_OPTIONS = {
    "care_settings": [UNKNOWN_CHOICE],
    "labels": [("other", "Others"), ("none", "No labels"), UNKNOWN_CHOICE],
}
# Fields of the profile beside which "not known yet" can be ticked; choices carry it among their answers.
UNKNOWABLE = [
    "population_served", "image_count", "oct_count", "widefield_count", "other_count", "cameras", "years_from",
    "years_to", "ethics_reference", "regulation_note",
]  # fmt: skip
