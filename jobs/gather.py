"""What the checks of a contribution are given beside its files, as the sandbox mounts it."""

import json
import secrets
from pathlib import Path

from contributions import attestations, embargo, isolation
from contributions.lifecycle import LIVE
from contributions.models import Contribution, ContributionFile, Evidence
from contributions.reports import accepted_layers
from jobs import cache, services
from jobs.kit import statements
from portal.institutions import services as institutions
from portal.institutions import signing_keys
from portal.institutions.models import Institution

MOST_GENERATORS = 8
FEATURES = "drawn.safetensors"  # as jobs/kit/checks/sites.py writes it
MOST_OTHERS = 200


def beside(contribution: Contribution, files: list[ContributionFile], scratch: Path) -> dict[str, Path]:
    """Gather what is mounted beside the files: the base, what came with them, what they are held against."""
    assert contribution.base_model is not None  # a database constraint
    return {
        "base": cache.base_folder(contribution.base_model),
        "dossier": _dossier(contribution, files, scratch),
        "others": _others(contribution, scratch),
    }


def generators(contribution: Contribution, scratch: Path) -> Path:
    """Gather the institution's checked weights of the same base that the images may come from: at most nine."""
    folder = scratch / "generators"
    folder.mkdir()
    held = ContributionFile.objects.filter(
        state=ContributionFile.State.VERIFIED,
        contribution__status__in=LIVE,
        contribution__kind=Contribution.Kind.WEIGHTS,
        contribution__institution__in=Institution.objects.one_with(contribution.institution),
        contribution__base_model=contribution.base_model,
    ).exclude(contribution__in=isolation.isolated())
    likely = [*held.filter(sha256=_said_generator(contribution)), *held.order_by("-pk")[:MOST_GENERATORS]]
    for file in {file.sha256: file for file in likely}.values():
        (folder / f"{file.sha256}.safetensors").hardlink_to(cache.fetch(file.storage_key, file.sha256))
    return folder


def _said_generator(contribution: Contribution) -> str:
    """Return the SHA-256 that the privacy report names, unverified: check 9 asks that the images name the same."""
    try:
        said = statements.unverified(attestations.of(contribution).get("privacy"), statements.PRIVACY)
    except statements.StatementError:
        return ""
    named = said.predicate.get("weights_sha256")
    return named if isinstance(named, str) and statements.is_sha256(named) else ""


def _others(contribution: Contribution, scratch: Path) -> Path:
    """
    Gather what is kept of other institutions' accepted contributions to the same base, for checks 7 and 10.

    An institution that another has taken over is no other one. Weights go first where there are too many.
    """
    folder, own = scratch / "others", institutions.acting_for(contribution.institution)
    folder.mkdir()
    kept = Evidence.objects.filter(
        name=FEATURES,
        contribution__base_model=contribution.base_model,
        contribution__in=embargo.usable(now=services.now()),
    ).exclude(contribution__institution=contribution.institution)
    newest = {
        row.contribution_id: row for row in kept.select_related("contribution__institution__merged_into").order_by("pk")
    }
    rows = sorted(newest.values(), key=lambda row: (row.contribution.kind == Contribution.Kind.WEIGHTS, row.pk))
    for row in rows[-MOST_OTHERS:]:
        if institutions.acting_for(row.contribution.institution) != own:
            name = f"{row.contribution.institution_id}-{row.contribution_id}.safetensors"
            (folder / name).hardlink_to(cache.fetch(row.storage_key, row.sha256))
    return folder


def _elsewhere(contribution: Contribution) -> list[str]:
    """Return the SHA-256 of other institutions' checked weights of the same base; see _others()."""
    own = institutions.acting_for(contribution.institution)
    held = ContributionFile.objects.filter(
        state=ContributionFile.State.VERIFIED,
        contribution__status__in=LIVE,
        contribution__kind=Contribution.Kind.WEIGHTS,
        contribution__base_model=contribution.base_model,
    ).select_related("contribution__institution__merged_into")
    others = (file for file in held if institutions.acting_for(file.contribution.institution) != own)
    return sorted({file.sha256 for file in others})


def _dossier(contribution: Contribution, files: list[ContributionFile], scratch: Path) -> Path:
    """Write what came beside the files and what they are held against, as the kit's checks read it."""
    assert contribution.base_model is not None  # as above
    signed, is_weights = attestations.of(contribution), contribution.kind == Contribution.Kind.WEIGHTS
    path = scratch / "dossier.json"
    facts = {
        "sha256": files[0].sha256 if is_weights else contribution.manifest_sha256,  # as check 0 found it
        "salt": secrets.token_hex(8),
        "elsewhere": [] if is_weights else _elsewhere(contribution),
        "card": contribution.training_card,
        "signature": signed.get("signature"),
        "privacy": signed.get("privacy"),
        "keys": signing_keys.in_force(contribution.institution),
        "peers": accepted_layers(contribution.base_model, now=services.now()) if is_weights else [],
    }
    path.write_text(json.dumps(facts), encoding="utf-8")
    return path
