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


class LegalBasis(models.TextChoices):
    APPROVAL = "approval", "Approval of an ethics committee"
    WAIVER = "waiver", "Waiver of an ethics committee"
    CONSENT = "consent", "Consent of the patients"
    OTHER = "other", "Another basis"
    UNKNOWN = UNKNOWN_CHOICE


CARE_SETTINGS = [
    ("primary", "Primary care or optometry"),
    ("screening", "Diabetic or general screening"),
    ("clinic", "Eye clinic"),
    ("referral", "Referral or university hospital"),
    ("cohort", "Research cohort"),
    UNKNOWN_CHOICE,
]
LABELS = [
    ("dr", "Diabetic retinopathy"),
    ("dme", "Diabetic macular oedema"),
    ("glaucoma", "Glaucoma"),
    ("amd", "Age-related macular degeneration"),
    ("myopia", "Pathological myopia"),
    ("rop", "Retinopathy of prematurity"),
    ("rvo", "Retinal vein occlusion"),
    ("other", "Others"),
    ("none", "No labels"),
    UNKNOWN_CHOICE,
]
# Fields of the profile beside which "not known yet" can be ticked; choices carry it among their answers.
UNKNOWABLE = [
    "population_served", "image_count", "oct_count", "widefield_count", "other_count", "cameras", "years_from",
    "years_to", "ethics_reference", "regulation_note",
]  # fmt: skip
