"""Figures of the report of checks: what is looked at rather than read."""

from typing import Any

from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from portal import charts

NOTHING = mark_safe("")


def of_check(number: int, evidence: dict[str, Any]) -> SafeString:
    """Return the figure of one check's evidence, empty where it has none; the evidence may be of an older kit."""
    try:
        return DRAWN[number](evidence) if number in DRAWN else NOTHING
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
        return NOTHING


def _layers(evidence: dict[str, Any]) -> SafeString:
    """Draw how far each group of layers moved from the base, in percent of the base's norm."""
    layers = evidence["layers"]
    rows = [charts.Bar(name, 100 * float(layers[name]), f"{float(layers[name]):.2%}") for name in sorted(layers)]
    return charts.bars(rows, _("Distance from the base generator, of its norm"))


def _privacy(evidence: dict[str, Any]) -> SafeString:
    """Draw the figures that decide, each from 0 to 1, with what chance alone would give."""
    copies, attacks = evidence["report"]["copies"], evidence["report"]["membership"]
    rows = [
        _share(_("Copies, by features"), copies["features"]["copy_share"]),
        _share(_("Copies, by hash"), copies["perceptual_hash"]["copy_share"]),
        _area(_("Membership, by loss"), attacks["loss"]),
        _area(_("Membership, base taken off"), attacks["loss_less_base"]),
    ]
    return charts.bars(
        rows, _("What is given away, measured at the site; by chance copies 5 %, membership 0.5"), maximum=1
    )


def _share(label: str, value: Any) -> charts.Bar:
    return charts.Bar(label, float(value), f"{float(value):.0%}")


def _area(label: str, attack: dict[str, Any]) -> charts.Bar:
    low, high = float(attack["low"]), float(attack["high"])
    return charts.Bar(label, float(attack["auc"]), f"{float(attack['auc']):.2f} ({low:.2f} – {high:.2f})")


def _fidelity(evidence: dict[str, Any]) -> SafeString:
    rows = [_share(_(name.capitalize()), evidence[name]) for name in ("precision", "recall", "coverage")]
    return charts.bars(rows, _("Overlap with public photographs"), maximum=1)


def _utility(evidence: dict[str, Any]) -> SafeString:
    names = (("trained_on_synthetic", _("Trained on synthetic images")), ("trained_on_real", _("Trained on real ones")))
    rows = [_area(label, {**evidence[name], "auc": evidence[name]["auroc"]}) for name, label in names]
    return charts.bars(rows, f"{_('AUROC on real photographs')}, {evidence['label']}", maximum=1)


def _mixture(evidence: dict[str, Any]) -> SafeString:
    names = ("like photographs", "blurred", "badly exposed", "not of the modality")
    rows = [_share(_(name.capitalize()), evidence["mixture"][name]) for name in names]
    return charts.bars(rows, _("Mixture of qualities, of all images"), maximum=1)


LONG = {5}
DRAWN = {5: _layers, 7: _mixture, 8: _fidelity, 9: _privacy, 11: _utility}
