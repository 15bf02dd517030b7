"""Programmes as tenants: a second specialty from a folder, with its own agreement, checks and board."""

import json
from pathlib import Path

import pytest
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
from portal.errors import NotAllowed
from portal.institutions.models import Institution
from portal.programmes import services
from portal.programmes.models import BaseModel, Programme
from tests import chest as chests
from tests import factories

SHIPPED = Path(services.__file__).parent / "blueprints"


# Tenants do not touch each other


def allows(institution, programme) -> bool:
    action = agreements.Action.CONTRIBUTE_WEIGHTS
    return agreements.may(institution, action, programme=programme, now=timezone.now()).allowed


def test_the_agreement_of_one_programme_counts_for_no_other(chest, institution):
    retina = Programme.objects.get(slug="retina")
    assert [allows(institution, row) for row in (retina, chest)] == [True, False]
    draft = chests.draft(chest, institution)
    assert [type(problem).__name__ for problem in obstacles(draft)][:1] == ["AgreementRequired"]
    factories.sign_agreement(institution, programme=chest)
    assert [problem.code for problem in obstacles(draft)] == ["files_incomplete"]
    assert [allows(institution, row) for row in (retina, chest)] == [True, True]


def test_only_the_own_board_votes_on_a_contribution(chest, institution, board):
    retina = Programme.objects.get(slug="retina")
    retina_only = factories.user("Retina Only")
    accounts.appoint(retina_only, "board_member", programme=retina, by=None, now=timezone.now())
    own = chests.board(chest, 1)[0]
    motion = chests.before_the_board(chest, institution)
    assert not boards.can_vote(retina_only, motion)
    with pytest.raises(NotAllowed, match="Only members of the board of Chest X-ray vote"):
        boards.cast_vote(motion, choice="for", by=retina_only, now=timezone.now())
    with pytest.raises(NotAllowed):
        boards.recuse(motion, reason="I know them.", by=retina_only, now=timezone.now())
    for person in [own, *board]:  # seats of every programme count everywhere
        motion.refresh_from_db()
        if motion.status == "open":
            factories.cast(motion, person)
    assert Contribution.objects.get(pk=motion.contribution_id).status == "approved"


def test_a_board_of_its_own_decides_alone(chest, institution):
    members = chests.board(chest)
    motion = chests.before_the_board(chest, institution)
    for person in members:
        motion.refresh_from_db()
        if motion.status == "open":
            factories.cast(motion, person)
    motion.refresh_from_db()
    assert motion.status == "carried"


def test_a_seat_in_one_programme_sees_nothing_of_another(chest, institution, board, sign_in):
    own = chests.board(chest, 1)[0]
    reviewed = factories.reviewed_contribution(institution)
    factories.applied_institution("Lake Hospital")
    admission = boards.refer_institution(Institution.objects.get(name="Lake Hospital").pk, now=timezone.now())
    motion = chests.before_the_board(chest, institution)
    assert list(Contribution.objects.visible_to(own)) == [motion.contribution]
    assert list(Motion.objects.visible_to(own)) == [motion]
    assert list(Motion.objects.visible_to(board[0]).order_by("pk")) == sorted(
        [reviewed.motions.get(), admission, motion], key=lambda row: row.pk
    )
    assert not Institution.objects.visible_to(own).filter(name="Lake Hospital").exists()
    page = sign_in(own).get("/board/")
    assert [row.motion for row in page.context["rows"]] == [motion]
    assert page.context["waiting"] == 1
    assert not accounts.has_role(own, "board_member")


def test_a_chair_of_one_programme_is_no_auditor(chest):
    person = factories.user("Chest Chair")
    accounts.appoint(person, "chair", programme=chest, by=None, now=timezone.now())
    assert not accounts.is_auditor(person)


def test_admissions_are_voted_by_the_seats_of_every_programme(chest, board):
    own = chests.board(chest, 1)[0]
    application = factories.applied_institution("Lake Hospital")
    motion = boards.refer_institution(application.pk, now=timezone.now())
    assert boards.can_vote(board[1], motion)
    assert not boards.can_vote(own, motion)


def test_what_a_programme_does_not_take_cannot_be_begun(chest, institution):
    Programme.objects.filter(pk=chest.pk).update(is_open=False)
    with pytest.raises(services.ProgrammeClosed, match="takes no new contribution"):
        chests.draft(Programme.objects.get(pk=chest.pk), institution)
    Programme.objects.filter(pk=chest.pk).update(is_open=True, kinds=["images"])
    with pytest.raises(services.KindNotOffered, match="does not take generator weights. It takes: de-identified phot"):
        chests.draft(Programme.objects.get(pk=chest.pk), institution)


def test_a_contribution_stays_in_its_programme(chest, institution, steward):
    draft = chests.draft(chest, institution)
    other = BaseModel.objects.get(slug="fundus-64")
    with pytest.raises(contributions.OtherProgramme):
        contributions.change(draft, base_model=other, by=steward, now=timezone.now())


def test_checks_and_thresholds_are_the_programmes_own(chest):
    config = chest.base_models.get().effective_config()
    assert (config["checks_run"], config["checks"]["samples"]) == ([0, 1, 4, 5], 16)
    assert BaseModel.objects.get(slug="fundus-64").effective_config()["checks"]["samples"] == 20


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
    assert accounts.seated(programme).count() == 2


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
    chests.apply(SHIPPED / "chest-xray")
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
