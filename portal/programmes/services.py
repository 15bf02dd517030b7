"""Programmes and base models: what a specialty is made of."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from portal import storage
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError
from portal.programmes.models import KINDS, BaseModel, Programme


class ProgrammeClosed(DomainError):
    """The programme takes no new contribution."""

    code = "programme_closed"


class KindNotOffered(DomainError):
    """The programme does not take this kind of contribution."""

    code = "kind_not_offered"


@transaction.atomic
def create(
    *, slug: str, name: str, modality: str, description: str, by: User | None, now: datetime, **more: Any
) -> Programme:
    """Create a programme: another specialty is a row like this. `more`: the remaining fields of Programme."""
    programme = Programme.objects.create(
        slug=slug, name=name, modality=modality, description=description, created_at=now, **more
    )
    audit.record("programme.created", programme, by=by)
    return programme


@transaction.atomic
def change(programme: Programme, *, by: User | None, **fields: Any) -> list[str]:
    """Change what is given and differs; return the names of the fields that changed."""
    programme = Programme.objects.select_for_update().get(pk=programme.pk)
    changed = sorted(name for name, value in fields.items() if getattr(programme, name) != value)
    for name in changed:
        setattr(programme, name, fields[name])
    if changed:
        programme.save(update_fields=changed)
        audit.record("programme.changed", programme, by=by, fields=changed)
    return changed


def require_takes(programme: Programme, kind: str) -> None:
    """Raise ProgrammeClosed or KindNotOffered unless the programme takes contributions of this kind."""
    if not programme.is_open:
        raise ProgrammeClosed(
            f"{programme} takes no new contribution at present. What you gave stays.",
            next_url=programme.get_absolute_url(),
        )
    if kind not in programme.kinds:
        offered = ", ".join(KINDS[kind].lower() for kind in programme.kinds)
        raise KindNotOffered(
            f"{programme} does not take {KINDS.get(kind, kind).lower()}. It takes: {offered}.",
            next_url=programme.get_absolute_url(),
        )


def offering(kinds: list[str]) -> QuerySet[Programme]:
    """Return the programmes that take one of these kinds now: open, and with a base model to begin from."""
    rows = Programme.objects.open().filter(kinds__overlap=kinds, base_models__isnull=False)
    return rows.distinct().order_by("name")


def register_base_model(programme: Programme, folder: Path, *, by: User | None, now: datetime) -> BaseModel:
    """
    Register the generator in `folder` and keep its files in the vault.

    The folder holds config.json, model.safetensors, card.md and, where config.json names it, reference.safetensors.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    path = folder / "model.safetensors"
    key = f"base-models/{programme.slug}/{config['slug']}-{config['version']}.safetensors"
    base = BaseModel(
        programme=programme,
        slug=config["slug"],
        version=config["version"],
        config=config,
        card=(folder / "card.md").read_text(encoding="utf-8"),
        sha256=config["sha256"],
        size_bytes=path.stat().st_size,
        storage_key=key,
        licence=config["licence"],
        registered_at=now,
    )
    with path.open("rb") as file:
        storage.put(storage.VAULT, key, file)
    if base.reference_key:
        with (folder / "reference.safetensors").open("rb") as file:
            storage.put(storage.VAULT, base.reference_key, file)
    with transaction.atomic():
        base.save(force_insert=True)
        audit.record("base_model.registered", base, by=by, sha256=base.sha256)
    return base
