"""Drafting a model card from what is on record (Hugging Face front matter with model-index)."""

import json
from typing import Any

from contributions.corpora import services as corpora
from governance.releases.models import Candidate, License

PRIVACY = 9  # the number of the check (DESIGN.md section 5)


def draft(candidate: Candidate, evaluations: list[Any]) -> str:
    """
    Return a model card in Markdown: front matter, use, training, evaluation, limits, credits.

    `evaluations` are rows of benchmarks.Evaluation; benchmarks stand above releases, so the class is not imported.
    """
    return "\n".join([_front_matter(candidate, evaluations), *_body(candidate, evaluations)])


def licensed(card: str, license: License) -> str:
    """Return a card whose front matter names the licence under which it is proposed, whatever the draft said."""
    if not card.startswith("---\n"):
        return card
    front, end, body = card.partition("\n---")
    lines = [
        f"license: {license.spdx_id.lower()}" if line.startswith("license:") else line for line in front.split("\n")
    ]
    return "\n".join(lines) + end + body


def _front_matter(candidate: Candidate, evaluations: list[Any]) -> str:
    results = [
        {
            "task": {"type": "image-classification", "name": row.task.name},
            "dataset": {"name": row.task.dataset.title, "type": row.task.dataset.slug},
            "metrics": [{"type": "roc_auc", "value": round(row.auroc, 4), "name": "AUROC"}],
        }
        for row in evaluations
        if row.auroc is not None
    ]
    index = [{"name": candidate.slug, "results": results}]
    lines = ["---", "license: cc-by-nc-4.0", "library_name: transformers", "pipeline_tag: image-feature-extraction"]
    lines += [f"tags: [medical, {candidate.programme.slug}]", f"model-index: {json.dumps(index)}", "---", ""]
    return "\n".join(lines)


def _body(candidate: Candidate, evaluations: list[Any]) -> list[str]:
    training = candidate.training
    return [
        f"# {candidate.name}",
        "",
        candidate.description,
        "",
        "## Intended use",
        "",
        f"Research on representations of images ({candidate.programme.modality}): features for probes and fine-tuning. "
        "**Not for clinical use**: it has not been evaluated as a medical device.",
        "",
        "## Training",
        "",
        f"{training.get('method', '')}: {training.get('images', '?')} images, {training.get('steps', '?')} steps of "
        f"{training.get('batch', '?')}, seed {training.get('seed', '?')}, on {training.get('device', '?')}. "
        f"Corpus: {candidate.corpus}; the SHA-256 of its manifest is `{_manifest_sha256(candidate)}`.",
        "",
        *_sources(candidate),
        "## Evaluation",
        "",
        "Frozen features, linear probe, AUROC with the 95 % interval of a patient-level bootstrap.",
        "",
        "| task | n | AUROC | 95 % interval |",
        "|---|---:|---:|---|",
        *[_row(row) for row in evaluations],
        "",
        *_seen(evaluations),
        "Pooled figures flatter: part of what a probe reads is the site. See the figures per region and source in "
        "`evaluation.json`.",
        "",
        "## Limits",
        "",
        "Small, trained on few photographs from few countries: compare it with the baseline on the leaderboard, whose "
        "features never saw an image of this kind, before you choose it. Its shape and the crop of the images were "
        "settled while looking at figures on the benchmark's own images, so the figures above are exploratory. "
        f"{_checked(candidate)} Nobody calls them anonymous. The file is the encoder alone; the half of the model that "
        "draws images is not released, so it gives back no photograph. Whether a photograph was among those it learnt "
        "from has not been tested.",
        "",
    ]


def _seen(evaluations: list[Any]) -> list[str]:
    """Say of which of the images that it was measured on the encoder has learnt, by data set."""
    seen = {row.task.dataset.title: row.learnt_from for row in evaluations if row.auroc is not None}
    return [
        f"It has learnt, without labels, from {count} of the images of {title} that it was measured on: the figures "
        "flatter it beside an encoder that has not.\n"
        for title, count in seen.items()
        if count
    ]


def _checked(candidate: Candidate) -> str:
    has_report = PRIVACY in candidate.programme.checks
    word = "a privacy report signed by each institution among them" if has_report else "a privacy report not among them"
    return f"Contributions passed the checks that the programme asks for, {word}."


def _manifest_sha256(candidate: Candidate) -> str:
    return candidate.corpus.manifest_sha256 if candidate.corpus else ""


def _row(row: Any) -> str:
    if row.auroc is None:
        return f"| {row.task.name} | {row.n} | {row.why_no_figure} | |"
    return f"| {row.task.name} | {row.n} | {row.auroc:.3f} | {row.low:.3f} to {row.high:.3f} |"


def _sources(candidate: Candidate) -> list[str]:
    if candidate.corpus is None:
        return []
    parts = candidate.corpus.parts.select_related("dataset", "contribution__institution__merged_into")
    lines = [f"- {part.for_the_public}" for part in parts]
    credited = corpora.credits_of(candidate.corpus)
    return [*lines, "", *([f"Contributions by {', '.join(credited)}.", ""] if credited else [])]
