"""A chest X-ray programme for tests: a second specialty, from a folder."""

import hashlib
import json
import shutil
from pathlib import Path

from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution
from governance.board import services as boards
from governance.board.models import Motion
from portal.accounts import services as accounts
from portal.blueprint import applying
from portal.institutions.models import Institution, Membership
from portal.programmes.models import Programme
from tests import factories

TOML = """
slug = "chest-xray"
name = "Chest X-ray"
headline = "Hospitals train one model of the chest."
modality = "frontal chest radiography"
description = "One model of the chest radiograph."
public_description = "about.md"
kinds = ["weights"]
purposes = ["Training open models of the chest radiograph"]

[profile.care_settings]
ward = "Hospital ward"
[profile.labels]
pneumothorax = "Pneumothorax"

[checks]
run = [0, 1, 4, 5]
[checks.thresholds]
samples = 16

[[agreements]]
slug = "chest-agreement"
title = "Chest agreement"
text = "agreement.md"
covers = ["weights"]

[[base_models]]
folder = "cxr-64"

[[board]]
email = "chest@example.org"
role = "chair"

[[tasks]]
slug = "pneumothorax"
name = "Pneumothorax"
dataset = "chest-images"
label = "pneumothorax"
"""


def write_folder(folder: Path) -> Path:
    """A chest X-ray programme with texts and a base model of its own; not a line of code."""
    (folder / "programme.toml").write_text(TOML)
    (folder / "about.md").write_text("Radiographs of the *chest*.\n")
    (folder / "agreement.md").write_text("# Chest agreement\n\nNo radiograph is sent.\n")
    base = shutil.copytree(factories.BASE_FOLDER, folder / "cxr-64")
    change_weights(base, slug="cxr-64")
    return folder


def change_weights(base: Path, **entries: str) -> None:
    """Change one number of a base model by its lowest bit, and entries of its config.json."""
    content = (base / "model.safetensors").read_bytes()
    content = content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]
    (base / "model.safetensors").write_bytes(content)
    config = json.loads((base / "config.json").read_text())
    config |= {"sha256": hashlib.sha256(content).hexdigest(), **entries}
    (base / "config.json").write_text(json.dumps(config))


def edit(folder: Path, old: str, new: str, *, file: str = "programme.toml") -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))


def apply(folder: Path) -> list[str]:
    return applying.apply(folder, by=None, now=timezone.now())


def board(chest: Programme, size: int = 3) -> list:
    people = [factories.user(f"Chest Member {number}") for number in range(size)]
    for person in people:
        accounts.appoint(person, "board_member", programme=chest, by=None, now=timezone.now())
    return people


def draft(chest: Programme, institution: Institution) -> Contribution:
    return contributions.draft(
        institution,
        kind="weights",
        title="Radiograph generator",
        base_model=chest.base_models.get(),
        training_card=factories.CARD,
        by=factories.person_of(institution, Membership.Role.STEWARD),
        now=timezone.now(),
    )


def before_the_board(chest: Programme, institution: Institution) -> Motion:
    factories.sign_agreement(institution, programme=chest)
    row = draft(chest, institution)
    factories.upload(row, b"radiographs")
    steward = factories.person_of(institution, Membership.Role.STEWARD)
    contributions.submit(row, by=steward, now=timezone.now())
    contributions.begin_validation(row.pk, now=timezone.now())
    motion = boards.refer_contribution(row.pk, now=timezone.now())
    factories.review_all(motion)
    return motion
