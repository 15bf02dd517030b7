"""Programmes as tenants: a second specialty from a folder, with its own agreement, checks and board."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution
from contributions.readiness import obstacles
from governance.board import services as boards
from governance.board.models import Motion
from jobs import cache
from portal.accounts import services as accounts
from portal.accounts.models import ConsortiumRole
from portal.agreements import services as agreements
from portal.audit.models import AuditEvent
from portal.blueprint import applying, reading
from portal.blueprint.tables import BlueprintInvalid
from portal.errors import NotAllowed
from portal.institutions.models import Institution, Membership
from portal.programmes import services
from portal.programmes.models import BaseModel, Programme
from tests import factories

SHIPPED = Path(services.__file__).parent / "blueprints"
TOML = """
slug = "chest-xray"
name = "Chest X-ray"
modality = "frontal chest radiography"
description = "One model of the chest radiograph."
public_description = "about.md"
kinds = ["weights"]
purposes = ["Training open models of the chest radiograph"]

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


@pytest.fixture
def folder(tmp_path) -> Path:
    """A chest X-ray programme with texts and a base model of its own; not a line of code."""
    (tmp_path / "programme.toml").write_text(TOML)
    (tmp_path / "about.md").write_text("Radiographs of the *chest*.\n")
    (tmp_path / "agreement.md").write_text("# Chest agreement\n\nNo radiograph is sent.\n")
    base = shutil.copytree(factories.BASE_FOLDER, tmp_path / "cxr-64")
    content = (base / "model.safetensors").read_bytes() + b"\x00"
    (base / "model.safetensors").write_bytes(content)
    config = json.loads((base / "config.json").read_text())
    config |= {"slug": "cxr-64", "sha256": hashlib.sha256(content).hexdigest()}
    (base / "config.json").write_text(json.dumps(config))
    return tmp_path


def edit(folder: Path, old: str, new: str, *, file: str = "programme.toml") -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))


def apply(folder: Path) -> list[str]:
    return applying.apply(folder, by=None, now=timezone.now())


@pytest.fixture
def chest(folder, institution) -> Programme:
    """The second programme, beside the retina that `institution` has signed for."""
    factories.base_model(Programme.objects.get(slug="retina"))
    apply(folder)
    return Programme.objects.get(slug="chest-xray")


def chest_board(chest: Programme, size: int = 3) -> list:
    people = [factories.user(f"Chest Member {number}") for number in range(size)]
    for person in people:
        accounts.appoint(person, "board_member", programme=chest, by=None, now=timezone.now())
    return people


def chest_draft(chest: Programme, institution: Institution) -> Contribution:
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
    draft = chest_draft(chest, institution)
    factories.upload(draft, b"radiographs")
    steward = factories.person_of(institution, Membership.Role.STEWARD)
    contributions.submit(draft, by=steward, now=timezone.now())
    contributions.begin_validation(draft.pk, now=timezone.now())
    return boards.refer_contribution(draft.pk, now=timezone.now())


# A folder becomes a programme


def test_a_folder_becomes_a_programme(folder, db):
    chair = factories.user("Chest Chair", email="chest@example.org")
    done = apply(folder)
    assert done == [
        "Created the programme Chest X-ray.",
        "Published Chest agreement, version 1.",
        "The task pneumothorax waits for the data set chest-images. Apply again once it is registered.",
        "chest@example.org is on the board of Chest X-ray.",
        "Registered the base model cxr-64 1.0.0.",
    ]
    programme = Programme.objects.get()
    assert (programme.modality, programme.kinds, programme.checks, programme.thresholds, programme.is_open) == (
        "frontal chest radiography",
        ["weights"],
        [0, 1, 4, 5],
        {"samples": 16},
        True,
    )
    assert programme.public_description == "Radiographs of the *chest*.\n"
    assert list(boards.board(programme)) == [chair]
    assert list(boards.board()) == []
    verbs = list(AuditEvent.objects.order_by("pk").values_list("verb", flat=True))
    assert verbs == [
        "programme.created",
        "agreement.created",
        "agreement.published",
        "role.given",
        "base_model.registered",
    ]


def test_applying_it_again_changes_nothing(folder, db):
    factories.user("Chest Chair", email="chest@example.org")
    apply(folder)
    events = AuditEvent.objects.count()
    assert apply(folder) == [
        "The task pneumothorax waits for the data set chest-images. Apply again once it is registered."
    ]
    assert AuditEvent.objects.count() == events


def test_only_what_changed_is_changed(folder, db):
    apply(folder)
    edit(folder, 'name = "Chest X-ray"', 'name = "Chest radiography"')
    edit(folder, "samples = 16", "samples = 32")
    (folder / "agreement.md").write_text("# Chest agreement\n\nNo radiograph leaves.\n")
    edit(folder, 'covers = ["weights"]', 'covers = ["weights"]\nchange_note = "Says leaves instead of is sent."')
    assert apply(folder)[:2] == [
        "Changed name, thresholds of Chest radiography.",
        "Published Chest agreement, version 2.",
    ]
    programme = Programme.objects.get()
    newest = agreements.current(programme)
    assert (newest.version, newest.text) == (2, "# Chest agreement\n\nNo radiograph leaves.\n")
    assert AuditEvent.objects.get(verb="programme.changed").facts == {"fields": ["name", "thresholds"]}
    assert BaseModel.objects.count() == 1


def test_a_task_is_registered_once_its_data_set_is_there(folder, db):
    apply(folder)
    programme = Programme.objects.get()
    dataset = factories.dataset(programme)
    edit(folder, "chest-images", dataset.slug)
    assert "Registered the task Pneumothorax." in apply(folder)
    assert [task.slug for task in programme.tasks.all()] == ["pneumothorax"]
    assert apply(folder) == [
        "The seat of chest@example.org waits: no account with this verified address. Apply again later."
    ]
    edit(folder, 'label = "pneumothorax"', 'label = "effusion"')
    with pytest.raises(BlueprintInvalid, match=r"tasks\[1\].slug: a task pneumothorax is registered on other data"):
        apply(folder)


def test_a_changed_text_says_what_changed(folder, db):
    apply(folder)
    (folder / "agreement.md").write_text("# Chest agreement\n\nAnother text.\n")
    edit(folder, 'name = "Chest X-ray"', 'name = "Other"')
    with pytest.raises(BlueprintInvalid, match=r"agreements\[1\].change_note: the text differs from Chest agreement"):
        apply(folder)
    assert Programme.objects.get().name == "Chest X-ray"  # nothing of a refused folder stays


def test_a_version_of_a_base_model_is_its_bytes(folder, db):
    apply(folder)
    base = folder / "cxr-64"
    (base / "model.safetensors").write_bytes(b"other")
    edit(
        base,
        json.loads((base / "config.json").read_text())["sha256"],
        hashlib.sha256(b"other").hexdigest(),
        file="config.json",
    )
    with pytest.raises(
        BlueprintInvalid, match=r"base_models\[1\].folder: cxr-64 1.0.0 is registered with other weights"
    ):
        apply(folder)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('kinds = ["weights"]', 'kinds = ["wieghts"]', "kinds: “wieghts” is not one of weights, synthetic, images."),
        ('name = "Chest X-ray"', "", "name: is missing. Give a text."),
        ('name = "Chest X-ray"', "name = 7", "name: is not a text."),
        ('slug = "chest-xray"', 'slug = "chest xray"', "slug: “chest xray” may hold only letters, digits, hyphens and"),
        ("purposes", "purpose", "purpose: is not a key of this table. It has: agreements, base_models, board, checks,"),
        ("run = [0, 1, 4, 5]", "run = [0, 4, 5]", "checks.run: leaves out 1. No programme goes without these checks."),
        ("run = [0, 1, 4, 5]", "run = [0, 1, 4, 5, 99]", "checks.run: “99” is not one of 0, 1, 4, 5, 7."),
        ("samples = 16", "sampels = 16", "checks.thresholds.sampels: is not a threshold of every base model in this"),
        ("samples = 16", 'samples = "many"', "checks.thresholds.samples: is not a number."),
        ("samples = 16", "max_tensors = 16", "checks.thresholds.max_tensors: is a limit of safety and the same for"),
        ('"agreement.md"', '"none.md"', "agreements[1].text: none.md cannot be read as a Markdown file: No such file"),
        ('"agreement.md"', '"programme.toml"', "agreements[1].text: programme.toml cannot be read as a Markdown file:"),
        ('covers = ["weights"]', 'covers = ["films"]', "agreements[1].covers: “films” is not one of weights"),
        ('covers = ["weights"]', "months_valid = 0", "agreements[1].months_valid: is 0, which is not between 1"),
        ('covers = ["weights"]', 'signing_order = ["dean"]', "agreements[1].signing_order: “dean” is not one of princ"),
        ('folder = "cxr-64"', 'folder = "."', "base_models[1].folder:"),
        ("chest@example.org", "chest", "board[1].email: “chest” is not an e-mail address."),
        ('role = "chair"', 'role = "king"', "board[1].role: “king” is not one of board_member, chair."),
        ('slug = "chest-xray"', "slug = ", "is not TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_file_and_key(folder, db, old, new, problem):
    edit(folder, old, new)
    with pytest.raises(BlueprintInvalid) as caught:
        apply(folder)
    assert [line for line in caught.value.problems if line.startswith(f"programme.toml: {problem}")]
    assert not Programme.objects.exists()


def test_every_problem_is_told_at_once(folder, db):
    edit(folder, 'name = "Chest X-ray"', "")
    edit(folder, 'role = "chair"', 'role = "king"')
    with pytest.raises(CommandError) as caught:
        call_command("apply_programme", str(folder), "--check")
    assert "name: is missing" in str(caught.value)
    assert "“king”" in str(caught.value)


def test_the_command_says_what_it_did_and_who_did_it(folder, operator, capsys):
    call_command("apply_programme", str(folder), "--by", operator.email)
    assert "Created the programme Chest X-ray." in capsys.readouterr().out
    assert AuditEvent.objects.get(verb="programme.created").actor_id == operator.pk
    call_command("apply_programme", str(folder), "--check")
    assert capsys.readouterr().out == "chest-xray: the folder is in order.\n"
    with pytest.raises(CommandError, match="not the address of an operator"):
        call_command("apply_programme", str(folder), "--by", "nobody@example.org")


@pytest.mark.parametrize("name", ["retina", "chest-xray"])
def test_the_folders_we_ship_can_be_applied(db, name):
    done = apply(SHIPPED / name)
    assert done[0].startswith("Created the programme")
    assert [line for line in apply(SHIPPED / name) if "waits for the data set" not in line] == []
    programme = Programme.objects.get(slug=name)
    assert programme.base_models.count() == (1 if name == "retina" else 0)
    assert agreements.current(programme) is not None


def test_a_folder_without_the_file_is_no_programme(tmp_path):
    with pytest.raises(BlueprintInvalid, match="has no readable programme.toml"):
        reading.read(tmp_path)


# Tenants do not touch each other


def allows(institution, programme) -> bool:
    action = agreements.Action.CONTRIBUTE_WEIGHTS
    return agreements.may(institution, action, programme=programme, now=timezone.now()).allowed


def test_the_agreement_of_one_programme_counts_for_no_other(chest, institution):
    retina = Programme.objects.get(slug="retina")
    assert [allows(institution, row) for row in (retina, chest)] == [True, False]
    draft = chest_draft(chest, institution)
    assert [type(problem).__name__ for problem in obstacles(draft)][:1] == ["AgreementRequired"]
    factories.sign_agreement(institution, programme=chest)
    assert [problem.code for problem in obstacles(draft)] == ["files_incomplete"]
    assert [allows(institution, row) for row in (retina, chest)] == [True, True]


def test_only_the_own_board_votes_on_a_contribution(chest, institution, board):
    retina = Programme.objects.get(slug="retina")
    retina_only = factories.user("Retina Only")
    accounts.appoint(retina_only, "board_member", programme=retina, by=None, now=timezone.now())
    own = chest_board(chest, 1)[0]
    motion = before_the_board(chest, institution)
    assert not boards.can_vote(retina_only, motion)
    with pytest.raises(NotAllowed, match="Only members of the board of Chest X-ray vote"):
        boards.cast_vote(motion, choice="for", reason="", by=retina_only, now=timezone.now())
    with pytest.raises(NotAllowed):
        boards.recuse(motion, reason="I know them.", by=retina_only, now=timezone.now())
    for person in [own, *board]:  # seats of every programme count everywhere
        motion.refresh_from_db()
        if motion.status == "open":
            boards.cast_vote(motion, choice="for", reason="", by=person, now=timezone.now())
    assert Contribution.objects.get(pk=motion.contribution_id).status == "approved"


def test_a_board_of_its_own_decides_alone(chest, institution):
    members = chest_board(chest)
    motion = before_the_board(chest, institution)
    for person in members:
        motion.refresh_from_db()
        if motion.status == "open":
            boards.cast_vote(motion, choice="for", reason="", by=person, now=timezone.now())
    motion.refresh_from_db()
    assert motion.status == "carried"


def test_a_seat_in_one_programme_sees_nothing_of_another(chest, institution, board, sign_in):
    own = chest_board(chest, 1)[0]
    reviewed = factories.reviewed_contribution(institution)
    factories.applied_institution("Lake Hospital")
    admission = boards.refer_institution(Institution.objects.get(name="Lake Hospital").pk, now=timezone.now())
    motion = before_the_board(chest, institution)
    assert list(Contribution.objects.visible_to(own)) == [motion.contribution]
    assert list(Motion.objects.visible_to(own)) == [motion]
    assert list(Motion.objects.visible_to(board[0]).order_by("pk")) == sorted(
        [reviewed.motions.get(), admission, motion], key=lambda row: row.pk
    )
    assert not Institution.objects.visible_to(own).filter(name="Lake Hospital").exists()
    page = sign_in(own).get("/board/")
    assert [row["motion"] for row in page.context["rows"]] == [motion]
    assert page.context["waiting"] == 1
    assert not accounts.has_role(own, "board_member")


def test_a_chair_of_one_programme_is_no_auditor(chest):
    person = factories.user("Chest Chair")
    accounts.appoint(person, "chair", programme=chest, by=None, now=timezone.now())
    assert not accounts.is_auditor(person)


def test_admissions_are_voted_by_the_seats_of_every_programme(chest, board):
    own = chest_board(chest, 1)[0]
    application = factories.applied_institution("Lake Hospital")
    motion = boards.refer_institution(application.pk, now=timezone.now())
    assert boards.can_vote(board[1], motion)
    assert not boards.can_vote(own, motion)


def test_what_a_programme_does_not_take_cannot_be_begun(chest, institution):
    Programme.objects.filter(pk=chest.pk).update(is_open=False)
    with pytest.raises(services.ProgrammeClosed, match="takes no new contribution"):
        chest_draft(Programme.objects.get(pk=chest.pk), institution)
    Programme.objects.filter(pk=chest.pk).update(is_open=True, kinds=["images"])
    with pytest.raises(services.KindNotOffered, match="does not take generator weights. It takes: de-identified phot"):
        chest_draft(Programme.objects.get(pk=chest.pk), institution)


def test_a_contribution_stays_in_its_programme(chest, institution, steward):
    draft = chest_draft(chest, institution)
    other = BaseModel.objects.get(slug="fundus-64")
    with pytest.raises(contributions.OtherProgramme):
        contributions.change(draft, base_model=other, by=steward)


def test_checks_and_thresholds_are_the_programmes_own(chest):
    config = chest.base_models.get().effective_config()
    assert (config["checks_run"], config["checks"]["samples"]) == ([0, 1, 4, 5], 16)
    assert BaseModel.objects.get(slug="fundus-64").effective_config()["checks"]["samples"] == 64


def test_a_changed_threshold_reaches_the_worker(chest):
    base = chest.base_models.get()
    before = cache.base_folder(base)
    services.change(chest, thresholds={"samples": 8}, by=None)
    after = cache.base_folder(BaseModel.objects.get(pk=base.pk))
    assert before != after
    assert json.loads((after / "config.json").read_text())["checks"]["samples"] == 8


# What the database refuses


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("programme_kinds_known", {"kinds": ["weights", "videos"]}),
        ("programme_kinds_known", {"kinds": []}),
        ("programme_checks_necessary", {"checks": [0, 4, 5, 7]}),
        ("programme_checks_necessary", {"checks": [0, 1, 4, 5, 13]}),
    ],
)
def test_the_database_refuses_an_impossible_programme(programme, constraint, changes):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Programme.objects.update(**changes)


@pytest.mark.parametrize(
    ("constraint", "first", "second"),
    [
        ("one_current_chair", ("chair", True, 0), ("chair", True, 1)),
        ("one_current_chair", ("chair", False, 0), ("chair", False, 1)),
        ("one_current_role_per_person", ("board_member", True, 0), ("board_member", True, 0)),
        ("one_current_role_per_person", ("board_member", False, 0), ("board_member", False, 0)),
        ("only_seats_are_of_one_programme", None, ("operator", True, 0)),
    ],
)
def test_the_database_refuses_an_impossible_seat(programme, constraint, first, second):
    people = [factories.user("A"), factories.user("B")]

    def create(role, limited, person):
        ConsortiumRole.objects.create(user=people[person], role=role, programme=programme if limited else None)

    if first:
        create(*first)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        create(*second)


def test_each_programme_may_have_a_chair_of_its_own(programme):
    accounts.appoint(factories.user("A"), "chair", by=None, now=timezone.now())
    accounts.appoint(factories.user("B"), "chair", programme=programme, by=None, now=timezone.now())
    assert boards.board(programme).count() == 2


# Pages


def test_the_pages_list_both_programmes(client, chest):
    page = client.get("/programmes/")
    assert [row["programme"].slug for row in page.context["rows"]] == ["chest-xray", "retina"]
    page = client.get("/programmes/chest-xray/")
    assert "Radiographs of the <em>chest</em>." in page.text
    assert "Chest agreement, version 1" in page.text
    assert "cxr-64 1.0.0" in page.text
    assert "Training open models of the chest radiograph" in page.text
    assert "fundus-64" not in page.text
    assert page.context["figures"] == {"board": 0, "institutions": 0, "contributions": 0, "tasks": 0, "releases": 0}
    assert client.get("/programmes/none/").status_code == 404


def test_a_programme_without_anything_says_so(client, db):
    assert "No programme yet" in client.get("/programmes/").text
    apply(SHIPPED / "chest-xray")
    page = client.get("/programmes/chest-xray/").text
    assert "No base model yet" in page
    assert "This programme takes no contribution at present" in page
    assert "How to join</a>\n        <a" not in page  # nothing invites to contribute


def test_the_wizard_asks_for_the_programme_where_there_are_several(sign_in, steward, chest, institution):
    client = sign_in(steward)
    page = client.get("/contributions/new/")
    assert [row.slug for row in page.context["programmes"]] == ["chest-xray", "retina"]
    page = client.get("/contributions/new/?programme=chest-xray")
    assert [str(row) for row in page.context["form"].fields["base_model"].queryset] == ["cxr-64 1.0.0"]
    form = {"institution": institution.pk, "title": "Radiographs", "base_model": chest.base_models.get().pk}
    client.post("/contributions/new/?programme=chest-xray", form)
    assert Contribution.objects.get().programme == chest
    other = BaseModel.objects.get(slug="fundus-64").pk
    refused = client.post("/contributions/new/?programme=chest-xray", {**form, "base_model": other})
    assert list(refused.context["form"].errors) == ["base_model"]


def test_the_wizard_says_when_no_programme_is_open(sign_in, steward, institution):
    assert "No programme takes contributions at present" in sign_in(steward).get("/contributions/new/").text


def test_the_wizard_does_not_ask_where_there_is_one(sign_in, steward, institution):
    factories.base_model(Programme.objects.get())
    page = sign_in(steward).get("/contributions/new/")
    assert page.context["programme"].slug == "retina"
    assert "For the programme" not in page.text
