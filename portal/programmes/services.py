"""Programmes and base models: what a specialty is made of."""

import json
from datetime import datetime
from pathlib import Path

from django.db import transaction

from portal import storage
from portal.accounts.models import User
from portal.audit import services as audit
from portal.programmes.models import BaseModel, Programme


@transaction.atomic
def create(*, slug: str, name: str, modality: str, description: str, by: User | None, now: datetime) -> Programme:
    """Create a programme: another specialty is a row like this."""
    programme = Programme.objects.create(
        slug=slug, name=name, modality=modality, description=description, created_at=now
    )
    audit.record("programme.created", programme, by=by)
    return programme


def register_base_model(programme: Programme, folder: Path, *, by: User | None, now: datetime) -> BaseModel:
    """Register the generator in `folder` (config.json, model.safetensors, card.md) and keep its file in the vault."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    path = folder / "model.safetensors"
    key = f"base-models/{programme.slug}/{config['slug']}-{config['version']}.safetensors"
    with path.open("rb") as file:
        storage.put(storage.VAULT, key, file)
    with transaction.atomic():
        base = BaseModel.objects.create(
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
        audit.record("base_model.registered", base, by=by, sha256=base.sha256)
    return base
