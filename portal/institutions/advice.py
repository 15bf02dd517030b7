"""Which of the three kinds of contribution suits an institution, and why the others suit it less."""

from dataclasses import dataclass

from portal.institutions.models import Institution
from portal.institutions.vocabulary import Pathway

Answer, Gpu, Expertise = Institution.Answer, Institution.Gpu, Institution.Expertise
RECOMMENDED, POSSIBLE, ASK, NOT_NOW, FORBIDDEN = "recommended", "possible", "ask", "not_now", "forbidden"
_ORDER = [RECOMMENDED, POSSIBLE, ASK, NOT_NOW, FORBIDDEN]
FITS = {
    RECOMMENDED: "Recommended",
    POSSIBLE: "Possible",
    ASK: "Ask your ethics board first",
    NOT_NOW: "Not with what you have now",
    FORBIDDEN: "Your rules forbid it",
}


@dataclass(frozen=True)
class Advice:
    """The recommended kind (weights, synthetic, images; empty: law must answer first) and why, in two sentences."""

    kind: str
    headline: str
    why: str


@dataclass(frozen=True)
class KindAdvice:
    """What we say of one kind: how it fits, and two sentences why or why not."""

    kind: Pathway
    fit: str
    why: str

    @property
    def fit_label(self) -> str:
        return FITS[self.fit]


# Two sentences for each kind and fit.
_WHY = {
    (
        Pathway.WEIGHTS,
        POSSIBLE,
    ): "You have a GPU and people who can use it, so you can fine-tune the generator yourselves. "
    "No patient image leaves your institution.",
    (
        Pathway.WEIGHTS,
        ASK,
    ): "You have a GPU and people who can use it. Whether weights may leave is not settled: ask your "
    "ethics board, since weights can tell something about patients.",
    (
        Pathway.WEIGHTS,
        NOT_NOW,
    ): "Fine-tuning takes a GPU and somebody who can run a command line, and you have not told "
    "us of both. A partner with a GPU, or another kind, is the way until then.",
    (
        Pathway.WEIGHTS,
        FORBIDDEN,
    ): "You said that weights may not leave your institution. We never ask you to go against your rules.",
    (
        Pathway.SYNTHETIC,
        POSSIBLE,
    ): "You can train locally and draw synthetic images from your own model. They may leave, "
    "and no photograph is among them.",
    (
        Pathway.SYNTHETIC,
        ASK,
    ): "You can train locally and draw synthetic images from your own model. Whether they may leave "
    "is not settled: ask your ethics board.",
    (Pathway.SYNTHETIC, NOT_NOW): "Synthetic images come from a model that you train yourselves, which takes a GPU and "
    "somebody who can run a command line. You have not told us of both.",
    (
        Pathway.SYNTHETIC,
        FORBIDDEN,
    ): "You said that synthetic images may not leave your institution. We never ask you to go against your rules.",
    (
        Pathway.IMAGES,
        POSSIBLE,
    ): "Your rules let de-identified photographs leave, and this needs no GPU. It is not open yet: "
    "the kit, which will remove identifiers on your side, takes no photographs so far.",
    (
        Pathway.IMAGES,
        ASK,
    ): "This needs no GPU, and the kit will remove identifiers on your side. It is not open yet: there is "
    "time to ask your ethics board whether photographs may leave.",
    (
        Pathway.IMAGES,
        FORBIDDEN,
    ): "You said that photographs may not leave your institution, even de-identified. We never "
    "ask you to go against your rules.",
}
_HEADLINES = {
    Pathway.WEIGHTS: "Share weights",
    Pathway.SYNTHETIC: "Share synthetic images",
    Pathway.IMAGES: "Share de-identified photographs",
}


def can_train(institution: Institution) -> bool:
    """Test if the institution has the hardware and the people to fine-tune a generator."""
    return institution.gpu in {Gpu.SMALL, Gpu.LARGE} and institution.expertise in {Expertise.SOME, Expertise.TEAM}


def _fit(institution: Institution, kind: Pathway) -> str:
    allowed = institution.may_leave(kind)
    if allowed == Answer.NO:
        return FORBIDDEN
    if kind != Pathway.IMAGES and not can_train(institution):
        return NOT_NOW
    return POSSIBLE if allowed == Answer.YES else ASK


def _recommended(fits: dict[Pathway, str]) -> Pathway | None:
    """
    Return the kind that moves the least patient data among those that capacity and law allow.

    Weights before synthetic images before photographs: the order of DESIGN.md, section 1. A kind on which the law is
    silent may be recommended where it moves no photograph; photographs only where the law says yes.
    """
    for kind in (Pathway.WEIGHTS, Pathway.SYNTHETIC):
        if fits[kind] in {POSSIBLE, ASK}:
            return kind
    return Pathway.IMAGES if fits[Pathway.IMAGES] == POSSIBLE else None


def ranked(institution: Institution) -> list[KindAdvice]:
    """Return what we say of each kind, the best first."""
    fits = {kind: _fit(institution, kind) for kind in Pathway}
    best = _recommended(fits)
    rows = [KindAdvice(kind, RECOMMENDED if kind == best else fit, _WHY[kind, fit]) for kind, fit in fits.items()]
    return sorted(rows, key=lambda row: (_ORDER.index(row.fit), list(Pathway).index(row.kind)))


def recommend(institution: Institution) -> Advice:
    """Return the kind we recommend, or what to settle first."""
    best = ranked(institution)[0]
    if best.fit == RECOMMENDED:
        return Advice(str(best.kind), _HEADLINES[best.kind], best.why)
    return Advice(
        "",
        "Settle what may leave first",
        "With what you have told us, no kind fits yet. Ask your ethics board what may leave, or find a GPU partner; "
        "we can help with both.",
    )
