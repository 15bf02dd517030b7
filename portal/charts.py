"""
Charts drawn on the server: rows of HTML with marks in SVG, so that text keeps its size on a telephone and a screen
reader meets a table. Colours are CSS classes (parts.css); nothing is inline style, which the site's policy forbids.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

MARK = '<svg class="{}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
ROC_SIZE, ROC_MARGIN = 300, 44  # user units of the ROC figure


@dataclass(frozen=True)
class Bar:
    """One bar: `text` is what stands beside it, the value when empty; `url` makes the label a link."""

    label: str
    value: float
    text: str = ""
    url: str = ""


def _percent(value: float, start: float, end: float) -> str:
    """Return where `value` lies between `start` and `end`, in percent, kept inside."""
    share = (min(max(value, start), end) - start) / (end - start) if end > start else 0.0
    return f"{100 * share:.2f}".rstrip("0").rstrip(".")


def bar(value: float, maximum: float) -> SafeString:
    """Draw one bar of a row: `value` of `maximum`."""
    width = _percent(value, 0, maximum or 1)
    marks = format_html(
        '<rect class="c-track" width="100" height="10"/><rect class="c-bar" width="{}" height="10"/>', width
    )
    return format_html(MARK, "bar-mark", marks)


def bars(rows: Sequence[Bar], caption: str = "", unit: str = "", *, maximum: float = 0) -> SafeString:
    """Draw horizontal bars from zero to `maximum` (the largest, when 0), as a table of label, bar and figure."""
    maximum = maximum or max((row.value for row in rows), default=0)
    lines = format_html_join(
        "",
        '<tr><th scope="row">{}</th><td class="draw">{}</td><td class="num">{}</td></tr>',
        ((_label(row), bar(row.value, maximum), _figure(row, unit)) for row in rows),
    )
    return format_html('<table class="chart">{}<tbody>{}</tbody></table>', _caption(caption), lines)


def _label(row: Bar) -> SafeString:
    return format_html('<a href="{}">{}</a>', row.url, row.label) if row.url else format_html("{}", row.label)


def _figure(row: Bar, unit: str) -> str:
    value = f"{row.value:,.0f}".replace(",", "\u202f") if float(row.value).is_integer() else f"{row.value:g}"
    return row.text or f"{value}{unit}"


def _caption(text: str) -> SafeString:
    return format_html("<caption>{}</caption>", text) if text else SafeString("")


def interval(value: float | None, low: float | None, high: float | None, start: float = 0.3) -> SafeString:
    """
    Draw an AUROC and its interval on an axis from `start` to 1, with a grid each 0.1 and chance (0.5) dashed.

    The point is a line of no length with square caps: it stays square although the drawing is stretched.
    """
    ticks = [tick / 10 for tick in range(math.ceil(10 * start), 11)]
    grid = format_html_join(
        "",
        '<path class="{}" d="M{} 0V10"/>',
        (("c-reference" if tick == 0.5 else "c-grid", _percent(tick, start, 1)) for tick in ticks),
    )
    if value is None:
        return format_html(MARK, "estimate-mark", grid)
    line = SafeString("")
    if low is not None and high is not None:
        ends = _percent(low, start, 1), _percent(high, start, 1)
        line = format_html('<path class="c-interval" d="M{} 5H{}"/>', *ends)
    point = format_html('<path class="c-point" d="M{} 5h0.01"/>', _percent(value, start, 1))
    return format_html(MARK, "estimate-mark", grid + line + point)


def forest(
    cells: Sequence[Mapping[str, Any]],
    caption: str = "",
    overall: Mapping[str, Any] | None = None,
    heading: str = "Group",
    mark_weakest: bool = True,
) -> SafeString:
    """
    Draw AUROCs with their intervals under each other, the weakest marked.

    Args:
        cells: of an evaluation report: value, n, auroc, low, high, suppressed; a suppressed cell shows its n only.
        overall: a cell for the first row.
        heading: what the rows are. mark_weakest: only groups of one evaluation have a weakest.
    """
    shown = [cell for cell in [*cells, *([overall] if overall else [])] if _is_shown(cell)]
    start = min([0.5, *(math.floor(10 * cell["low"]) / 10 for cell in shown if cell.get("low") is not None)])
    ranked = [cell for cell in cells if _is_shown(cell) and cell.get("value") != "not stated"]
    weakest = min(ranked, key=lambda cell: cell["auroc"]) if mark_weakest and len(ranked) > 1 else None
    rows = [_forest_row({**overall, "value": "All"}, start, False)] if overall else []
    rows += [_forest_row(cell, start, cell is weakest) for cell in cells]
    body = format_html_join("", "{}", ((row,) for row in rows))
    template = (
        '<table class="chart">{}<thead><tr><th scope="col">{}</th><th scope="col" class="draw">{}</th>'
        '<th scope="col" class="num">AUROC</th></tr></thead><tbody>{}</tbody></table>'
    )
    axis = format_html(
        '<span class="vh">AUROC from {} to 1</span><span class="axis-labels" aria-hidden="true">'
        "<span>{}</span><span>1.0</span></span>",
        f"{start:.1f}",
        f"{start:.1f}",
    )
    return format_html(template, _caption(caption), heading, axis, body)


def _is_shown(cell: Mapping[str, Any]) -> bool:
    return cell.get("auroc") is not None and not cell.get("suppressed")


def _forest_row(cell: Mapping[str, Any], start: float, weakest: bool) -> SafeString:
    size = f"n = {cell.get('n', '')}" + (", weakest" if weakest else "")
    if not _is_shown(cell):
        mark, text = interval(None, None, None, start), mark_safe('<span class="quiet">too few to show</span>')
    else:
        mark = interval(cell["auroc"], cell.get("low"), cell.get("high"), start)
        text = format_html('{} <span class="range">{}</span>', f"{cell['auroc']:.3f}", _range(cell))
    return format_html(
        '<tr class="{}"><th scope="row">{} <span class="size">{}</span></th><td class="draw">{}</td>'
        '<td class="num">{}</td></tr>',
        "weakest" if weakest else "",
        cell.get("value", ""),
        size,
        mark,
        text,
    )


def _range(cell: Mapping[str, Any]) -> str:
    low, high = cell.get("low"), cell.get("high")
    return "" if low is None or high is None else f"({low:.3f}–{high:.3f})"


def roc(curves: Mapping[str, Sequence[Sequence[float]]] | Sequence[Sequence[float]], title: str = "") -> SafeString:
    """
    Draw ROC curves in the unit square with the line of chance.

    Args:
        curves: label -> points (false positive rate, true positive rate), both 0 to 1; or the points of one curve.
            At most three curves are told apart, by colour and by dashes.
    """
    named: Mapping[str, Any] = curves if isinstance(curves, Mapping) else {"": curves}
    lines = format_html_join(
        "",
        '<path class="c-curve curve-{}" d="{}"/>',
        ((index % 3, _roc_path(points)) for index, points in enumerate(named.values())),
    )
    full = ROC_SIZE + ROC_MARGIN + 8
    return format_html(
        '<figure class="roc"><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}</svg>{}</figure>',
        full,
        full,
        title or "ROC: true positive rate against false positive rate",
        _roc_frame(),
        lines,
        _roc_labels(),
        _roc_key([label for label in named if label]),
    )


def _roc_xy(false_positive: float, true_positive: float) -> str:
    return f"{ROC_MARGIN + ROC_SIZE * false_positive:.1f} {8 + ROC_SIZE * (1 - true_positive):.1f}"


def _roc_path(points: Sequence[Sequence[float]]) -> str:
    return "M" + "L".join(_roc_xy(point[0], point[1]) for point in points) if points else ""


def _roc_frame() -> SafeString:
    quarters = (0.25, 0.5, 0.75)
    grid = "".join(f"M{_roc_xy(at, 0)}V8M{_roc_xy(0, at)}h{ROC_SIZE}" for at in quarters)
    axis = f"M{_roc_xy(0, 1)}V{8 + ROC_SIZE}h{ROC_SIZE}"
    chance = f"M{_roc_xy(0, 0)}L{_roc_xy(1, 1)}"
    return format_html(
        '<path class="c-grid" d="{}"/><path class="c-axis" d="{}"/><path class="c-reference" d="{}"/>',
        grid,
        axis,
        chance,
    )


def _roc_labels() -> SafeString:
    bottom, right, middle = 8 + ROC_SIZE, ROC_MARGIN + ROC_SIZE, 8 + ROC_SIZE // 2
    labels = [
        (ROC_MARGIN, bottom + 18, "start", "", "0"),
        (right, bottom + 18, "end", "", "1"),
        (ROC_MARGIN + ROC_SIZE // 2, bottom + 32, "middle", "", "False positive rate"),
        (ROC_MARGIN - 8, bottom, "end", "", "0"),
        (ROC_MARGIN - 8, 18, "end", "", "1"),
        (14, middle, "middle", f"rotate(-90 14 {middle})", "True positive rate"),
    ]
    return format_html_join("", '<text x="{}" y="{}" text-anchor="{}" transform="{}">{}</text>', labels)


def _roc_key(labels: Sequence[str]) -> SafeString:
    if not labels:
        return SafeString("")
    sample = '<svg viewBox="0 0 32 8" aria-hidden="true"><path class="c-curve curve-{}" d="M0 4H32"/></svg>'
    rows = ((format_html(sample, index % 3), label) for index, label in enumerate(labels))
    return format_html('<ul class="key">{}</ul>', format_html_join("", "<li>{}{}</li>", rows))


def strips(lines: Sequence[tuple[str, Sequence[float], float]]) -> SafeString:
    """
    Draw measurements over time under each other, as a table of name, line, newest and largest value.

    Args:
        lines: name, values in the order of time, and the least that the full height stands for.
    """
    rows = format_html_join(
        "",
        '<tr><th scope="row">{}</th><td class="draw">{}</td><td class="num">{}</td><td class="num">{}</td></tr>',
        ((name, _strip(values, least), f"{values[-1]:.1f}", f"{max(values):.1f}") for name, values, least in lines),
    )
    head = format_html(
        '<thead><tr><th scope="col">{}</th><th scope="col" class="draw">{}</th><th scope="col" class="num">{}</th>'
        '<th scope="col" class="num">{}</th></tr></thead>',
        gettext("Measured"), gettext("Over time"), gettext("Now"), gettext("At most"),
    )  # fmt: skip
    return format_html('<table class="chart strips">{}<tbody>{}</tbody></table>', head, rows)


def _strip(values: Sequence[float], least: float) -> SafeString:
    top = max(least, *values)
    step = 100 / max(1, len(values) - 1)
    points = [f"{index * step:.2f} {10 - 10 * value / top:.2f}" for index, value in enumerate(values)]
    area = format_html('<path class="c-area" d="M0 10L{}L100 10Z"/>', "L".join(points))
    return format_html(MARK, "strip-mark", area)


def tally_bar(tally: Any) -> SafeString:
    """
    Draw the votes of a motion: for, against, abstentions and those missing, with a mark at the quorum.

    Args:
        tally: has votes_for, votes_against, abstentions, waiting, eligible and quorum (governance.board.tally.Tally).
    """
    parts = [
        ("for", "for", tally.votes_for),
        ("against", "against", tally.votes_against),
        ("abstain", "abstain", tally.abstentions),
        ("waiting", "not yet voted", max(tally.waiting, 0)),
    ]
    total = max(sum(count for _, _, count in parts), tally.quorum, 1)
    x, rects = 0, []
    for name, _, count in parts:
        rects.append((name, _percent(x, 0, total), _percent(count, 0, total)))
        x += count
    drawn = format_html_join("", '<rect class="t-{}" x="{}" width="{}" height="10"/>', rects)
    quorum = format_html('<path class="t-quorum" d="M{} 0V10"/>', _percent(tally.quorum, 0, total))
    swatch = '<svg viewBox="0 0 12 12" aria-hidden="true"><rect class="t-{}" x="1" y="1" width="10" height="10"/></svg>'
    key = format_html_join("", "<li>{}{} {}</li>", ((format_html(swatch, n), c, words) for n, words, c in parts if c))
    needed = format_html("<li>quorum {} of {}</li>", tally.quorum, tally.eligible)
    return format_html(
        '<div class="tally"><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{}{}</svg>'
        '<ul class="key">{}{}</ul></div>',
        drawn,
        quorum,
        key,
        needed,
    )
