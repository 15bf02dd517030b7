"""The profile of an institution: its sections, why each field is asked, and its answers in words."""

from typing import Any

from portal.institutions import countries, options
from portal.institutions.models import Institution
from portal.institutions.vocabulary import COMMON_OPTIONS

# Anchor, heading, why we ask, fields: the sections of the profile, in order.
SECTIONS = [
    (
        "institution",
        "Your institution",
        "Shown to the public once you are a member.",
        ["name", "local_name", "ror_id", "country", "city", "website", "kind"],
    ),
    (
        "patients",
        "Whom you serve",
        "A model learns only from the people it has seen. Your answers show whom it would see through you.",
        ["population_served", "care_settings"],
    ),
    (
        "images",
        "What you hold",
        "A guess is fine; so is “not known yet”. Nothing is sent because of these answers.",
        ["image_count", "oct_count", "widefield_count", "other_count", "cameras", "years_from", "years_to"],
    ),
    (
        "labels",
        "What is known about the images",
        "Decides in which checks of fairness your images can count.",
        ["labels", "sex_recorded", "age_recorded", "ethnicity_recorded"],
    ),
    (
        "capacity",
        "What you can run",
        "Decides, with the law, which of the three kinds of contribution suits you.",
        ["gpu", "expertise"],
    ),
    (
        "law",
        "Legal basis and what may leave",
        "Your law and your ethics approval decide this, not we.",
        [
            "legal_basis",
            "ethics_reference",
            "weights_may_leave",
            "synthetic_may_leave",
            "images_may_leave",
            "regulation_note",
        ],
    ),
    (
        "credit",
        "How you are credited",
        "Every release says who gave what it learnt from.",
        ["naming"],
    ),
]
FIELDS = [name for *_, names in SECTIONS for name in names]
COUNTS = ["image_count", "oct_count", "widefield_count", "other_count"]
LISTS = list(COMMON_OPTIONS)
# What a reviewer asks for before the first contribution; none of it stops an application.
WANTED = [
    "city", "website", "population_served", "care_settings", "image_count", "cameras", "years_from", "years_to",
    "labels", "gpu", "expertise", "legal_basis", "ethics_reference",
]  # fmt: skip
# What to write, and why we ask, by field.
HINTS = {
    "name": (
        "As on your letterhead, in Latin letters.",
        "It stands in the public list and in every release you helped.",
    ),
    "local_name": ("In any script.", "Your own people recognise it, and the receipt of the agreement shows it."),
    "ror_id": ("Nine characters, as in ror.org/04cpxjv19.", "It tells apart institutions of the same name."),
    "country": (
        "Countries and areas are named and grouped as the United Nations do (M49); it says nothing of their status.",
        "The model must learn from every region, and rules of law follow the country.",
    ),
    "city": ("", "It helps readers of the list to find you."),
    "kind": ("", "Hospitals, universities and companies sign different annexes of the agreement."),
    "website": ("", "The reviewer looks there to see that the institution exists."),
    "population_served": (
        "Who your patients are: age, town or country, groups that you see often.",
        "A model that has seen one group only fails others.",
    ),
    "care_settings": (
        "Tick all that fit.",
        "Images of a screening bus and of a referral clinic differ; the mixture must be known.",
    ),
    "image_count": ("", "It shows which regions are still missing."),
    "oct_count": ("", "Other kinds of image prepare the programmes that come next."),
    "widefield_count": ("", "They look unlike other photographs, and a check must know."),
    "other_count": ("", "For instance autofluorescence or angiography."),
    "cameras": ("Makers and models, one a line.", "A model that knows one camera only fails on the next."),
    "years_from": ("Four digits.", "Cameras and habits change; the years show how far the images reach."),
    "years_to": ("Four digits.", "Cameras and habits change; the years show how far the images reach."),
    "labels": ("Tick what a clinician has graded.", "Labelled images can test a model; the others can train one."),
    "sex_recorded": ("", "Without it nobody can test whether a model serves women and men alike."),
    "age_recorded": ("", "Organs age; a model must be tested in every age."),
    "ethnicity_recorded": (
        "Only whether it is recorded; we never ask for it of a patient.",
        "Where it is lawful to record it, it lets us test for unfairness.",
    ),
    "gpu": ("", "Fine-tuning the generator takes hours on a GPU and days without one."),
    "expertise": ("", "The kit is a command-line program; somebody has to run it."),
    "legal_basis": ("", "Every contribution rests on one, and the agreement names it."),
    "images_may_leave": ("Without direct identifiers.", "Photographs are the kind of contribution that needs no GPU."),
    "synthetic_may_leave": (
        "Drawn by a model that you trained; no photograph is among them.",
        "Synthetic images are the kind for sites that may send images but no weights.",
    ),
    "weights_may_leave": (
        "The numbers of a model that you trained.",
        "Weights move the least; still they can tell something about patients, so your rules may forbid it.",
    ),
    "regulation_note": (
        "Laws, contracts or countries to which nothing may go.",
        "The reviewer reads it, and the agreement repeats it.",
    ),
    "naming": (
        "It counts for the files of releases proposed from then on, and for the pages of all. That you are a member, "
        "and that the board approved a contribution of yours, stays public either way.",
        "The agreement lets you choose. Without your name, releases count you among those who asked not to be named.",
    ),
    "ethics_reference": (
        "Number of the approval or waiver.",
        "The first contribution needs it; the application does not.",
    ),
}


def _field(name: str) -> Any:
    return Institution._meta.get_field(name)


def label(name: str) -> str:
    """Return the name of a field as the page writes it."""
    text = str(_field(name).verbose_name)
    return text[:1].upper() + text[1:]


def in_words(name: str, value: Any, *, unknown: list[str] = ()) -> str:  # type: ignore[assignment]
    """Return an answer as one reads it; empty where there is none."""
    if value in (None, "", []):
        return "Not known yet" if name in unknown else ""
    if name == "country":
        country = countries.countries().get(value)
        return country.name if country else value
    if name in LISTS:
        names = dict(options.choices(name))
        return ", ".join(names.get(code, code) for code in value)
    if name in COUNTS:
        return f"{value:,}".replace(",", "\u202f")
    choices = _field(name).choices
    return str(dict(choices).get(value, value)) if choices else str(value)


def snapshot(institution: Institution) -> dict[str, Any]:
    """Return the answers as they stand, for the round of review that begins."""
    return {name: getattr(institution, name) for name in [*FIELDS, "unknown"]}


def is_open(institution: Institution, name: str) -> bool:
    """Test if a field has no answer at all; "not known yet" is one where it was ticked."""
    value = getattr(institution, name)
    return value in (None, "", []) and name not in institution.unknown


def missing(institution: Institution) -> list[str]:
    """Return the fields that a reviewer will ask for and that have no answer."""
    return [name for name in WANTED if is_open(institution, name)]
