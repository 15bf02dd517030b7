"""What differs between the kinds of contributions that are open: how many files, and how things are called."""

import shlex
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from contributions.models import Contribution

Text = str | Promise


@dataclass(frozen=True)
class Kind:
    """
    One kind of contribution.

    most_files: at most so many. suffix: of their names, as the kit writes them. commands: by kind of attestation.
    """

    slug: str
    name: Text
    what: Text  # in a sentence: "… have not arrived whole"
    about: Text
    step: Text  # title of the wizard's third step
    choose: Text
    hint: Text
    most_files: int
    suffix: str
    to_send: str  # what the kit is given
    commands: dict[str, str]
    checks: dict[int, tuple[Text, Text]]  # number: (name, what it asks)


SHARED: dict[int, tuple[Text, Text]] = {
    0: (_("Transfer"), _("Did every byte arrive, and is the file new?")),
    2: (_("Signature"), _("Did a registered key of the institution sign exactly this?")),
    3: (_("Agreement"), _("Is the institution's agreement for this kind in force?")),
    6: (_("Declaration"), _("Is the training card complete, and does its epsilon follow?")),
    8: (_("Fidelity"), _("How near do the images come to public photographs?")),
    10: (_("Poisoning"), _("Does anything in the images look planted?")),
    11: (_("Utility"), _("What does a probe learn from the images about real photographs?")),
}

WEIGHTS = Kind(
    slug="weights",
    name=_("Generator weights"),
    what=_("The weights"),
    about=_(
        "You fine-tune the base generator on your own photographs and send only the weights. No patient image leaves "
        "your institution."
    ),
    step=_("Weights and evidence"),
    choose=_("Choose weights.safetensors, or drop it here"),
    hint=_("One .safetensors file."),
    most_files=1,
    suffix=".safetensors",
    to_send="weights.safetensors",
    commands={
        "signature": "consortium sign weights.safetensors",
        "privacy": "consortium privacy prepared --weights weights.safetensors",
    },
    checks={
        **SHARED,
        1: (_("Container"), _("Is it a safetensors file, and nothing else?")),
        4: (_("Schema"), _("Are its tensors those of the base model, by name, shape and type?")),
        5: (_("Numerics"), _("Are all numbers finite, and are they not the base model's own?")),
        7: (_("Generation"), _("Do samples look like photographs of the modality?")),
        9: (_("Privacy"), _("Do the weights give their photographs away?")),
    },
)
SYNTHETIC = Kind(
    slug="synthetic",
    name=_("Synthetic images"),
    what=_("The images"),
    about=_(
        "You draw images from your own fine-tuned generator, look through them, and send those. Neither a patient "
        "image nor the weights leave your institution."
    ),
    step=_("Images and evidence"),
    choose=_("Choose the shards, or drop them here"),
    hint=_("The files synthetic-00000.tar and so on in FOLDER/shards, as consortium sign FOLDER packs them."),
    most_files=200,
    suffix=".tar",
    to_send="FOLDER",
    commands={
        "signature": "consortium sign FOLDER",
        "privacy": "consortium privacy prepared --weights weights.safetensors --images FOLDER",
    },
    checks={
        **SHARED,
        1: (_("Container"), _("Do the shards hold images of the kit, and nothing else?")),
        4: (_("Provenance"), _("Does each image say where it comes from, and is that so?")),
        5: (_("Duplicates"), _("Does a picture come twice, or nearly?")),
        7: (_("Quality"), _("Do the images look like photographs, and in which mixture?")),
        9: (_("Privacy"), _("Do the images give photographs away?")),
    },
)
OPEN = {kind.slug: kind for kind in (WEIGHTS, SYNTHETIC)}
NOT_OPEN = (
    _("De-identified photographs"),
    _("The kit will remove identifiers on your side, then the photographs travel."),
)


def of(slug: str) -> Kind:
    """Return what is said of a kind; of one that is not open yet, as of weights."""
    return OPEN.get(slug, WEIGHTS)


def send_command(contribution: Contribution) -> str:
    """Return the command by which the kit sends what belongs to a draft."""
    kind = of(contribution.kind)
    facts = {"institution": contribution.institution.slug, "title": contribution.title, "card": "training_card.json"}
    options = [word for name, value in facts.items() for word in (f"--{name}", value)]
    return shlex.join(["consortium", "contribute", kind.slug, kind.to_send, *options, "--resume", str(contribution.pk)])
