"""Which of the three kinds of contribution suits an institution."""

from dataclasses import dataclass

from portal.institutions.models import Institution

Answer, Gpu, Expertise = Institution.Answer, Institution.Gpu, Institution.Expertise


@dataclass(frozen=True)
class Advice:
    """The recommended kind (weights, synthetic, images; empty: law must answer first) and why, in two sentences."""

    kind: str
    headline: str
    why: str


def can_train(institution: Institution) -> bool:
    """Test if the institution has the hardware and the people to fine-tune a generator."""
    return institution.gpu in {Gpu.SMALL, Gpu.LARGE} and institution.expertise != Expertise.NONE


def recommend(institution: Institution) -> Advice:
    """
    Recommend the kind that moves the least patient data among those that capacity and law allow.

    Weights before synthetic images before photographs: the order of DESIGN.md, section 1.
    """
    if can_train(institution) and institution.weights_may_leave != Answer.NO:
        return Advice(
            "weights",
            "Share weights",
            "You have a GPU and people who can use it, so you can fine-tune the generator yourselves. "
            "No patient image leaves your institution.",
        )
    if can_train(institution) and institution.synthetic_may_leave != Answer.NO:
        return Advice(
            "synthetic",
            "Share synthetic images",
            "You can train locally, but weights may not leave. Synthetic images sampled from your own model may.",
        )
    if institution.images_may_leave == Answer.YES:
        return Advice(
            "images",
            "Share de-identified photographs",
            "Your rules let de-identified photographs leave, and this needs no GPU. "
            "The kit removes identifiers on your side before anything is sent.",
        )
    return Advice(
        "",
        "Settle what may leave first",
        "With what you have told us, no kind fits yet. Ask your ethics board what may leave, or find a GPU partner; "
        "we can help with both.",
    )
