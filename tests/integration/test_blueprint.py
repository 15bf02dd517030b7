"""A programme from a folder: no line of code."""

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from portal.accounts import services as accounts
from portal.agreements import services as agreements
from portal.audit.models import AuditEvent
from portal.blueprint import reading
from portal.blueprint.tables import BlueprintInvalid
from portal.institutions import options
from portal.programmes import services
from portal.programmes.models import BaseModel, Programme
from tests import chest as chests
from tests import factories, publishing

SHIPPED = Path(services.__file__).parent / "blueprints"


# A folder becomes a programme


def test_a_folder_becomes_a_programme(chest_folder, db):
    chair = factories.user("Chest Chair", email="chest@example.org")
    done = chests.apply(chest_folder)
    assert done == [
        "Created the programme Chest X-ray.",
        "“Where the images are taken” of the profile now offers Hospital ward.",
        "“Diseases with labels” of the profile now offers Pneumothorax.",
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
    assert list(accounts.seated(programme)) == [chair]
    assert list(accounts.seated(None)) == []
    verbs = list(AuditEvent.objects.order_by("pk").values_list("verb", flat=True))
    assert verbs == [
        "programme.created",
        "programme.changed",
        "programme.changed",
        "agreement.created",
        "agreement.published",
        "role.given",
        "base_model.registered",
    ]


def test_applying_it_again_changes_nothing(chest_folder, db):
    factories.user("Chest Chair", email="chest@example.org")
    chests.apply(chest_folder)
    events = AuditEvent.objects.count()
    assert chests.apply(chest_folder) == [
        "The task pneumothorax waits for the data set chest-images. Apply again once it is registered."
    ]
    assert AuditEvent.objects.count() == events


def test_only_what_changed_is_changed(chest_folder, db):
    chests.apply(chest_folder)
    chests.edit(chest_folder, 'name = "Chest X-ray"', 'name = "Chest radiography"')
    chests.edit(chest_folder, "samples = 16", "samples = 32")
    (chest_folder / "agreement.md").write_text("# Chest agreement\n\nNo radiograph leaves.\n")
    chests.edit(
        chest_folder, 'covers = ["weights"]', 'covers = ["weights"]\nchange_note = "Says leaves instead of is sent."'
    )
    assert chests.apply(chest_folder)[:2] == [
        "Changed name, thresholds of Chest radiography.",
        "Published Chest agreement, version 2.",
    ]
    programme = Programme.objects.get()
    newest = agreements.current(programme)
    assert (newest.version, newest.text) == (2, "# Chest agreement\n\nNo radiograph leaves.\n")
    assert AuditEvent.objects.filter(verb="programme.changed").latest("pk").facts == {"fields": ["name", "thresholds"]}
    assert BaseModel.objects.count() == 1


def test_the_summary_of_an_agreement_changes_with_the_folder_and_its_text_does_not(chest_folder, db):
    chests.apply(chest_folder)
    chests.edit(chest_folder, 'covers = ["weights"]', 'covers = ["weights"]\nsummary = "For the chest alone."')
    assert chests.apply(chest_folder)[0] == "Changed the summary of Chest agreement."
    agreement = Programme.objects.get().agreements.get()
    assert (agreement.summary, agreement.versions.count()) == ("For the chest alone.", 1)
    assert AuditEvent.objects.get(verb="agreement.changed").facts == {"fields": ["summary"]}
    chests.edit(chest_folder, 'summary = "For the chest alone."', "")
    assert [line for line in chests.apply(chest_folder) if "waits" not in line] == []
    agreement.refresh_from_db()
    assert agreement.summary == "For the chest alone."  # what a folder names no longer stays


def test_how_long_an_agreement_is_valid_is_no_change_of_a_folder(chest_folder, db):
    """Institutions have signed for so many months: a folder that says another number is not as the portal is."""
    chests.apply(chest_folder)
    chests.edit(chest_folder, 'covers = ["weights"]', 'covers = ["weights"]\nmonths_valid = 12')
    with pytest.raises(BlueprintInvalid) as refused:
        chests.apply(chest_folder)
    assert refused.value.problems == [
        "programme.toml: agreements[1].months_valid: Chest agreement has 0. Give other terms another slug."
    ]


def test_the_profile_offers_what_every_programme_brings(chest_folder, programme):
    """`programme` is the retina's. What a folder no longer names stays; a name may change, a code may not."""
    chests.apply(chest_folder)
    chests.edit(chest_folder, 'ward = "Hospital ward"', 'ward = "Ward"\nclinic = "Clinic"')
    chests.edit(chest_folder, 'pneumothorax = "Pneumothorax"', "")
    assert chests.apply(chest_folder)[0] == "“Where the images are taken” of the profile now offers Ward, Clinic."
    assert AuditEvent.objects.filter(verb="programme.changed").latest("pk").facts == {
        "fields": ["profile.care_settings"]
    }
    assert options.choices("care_settings") == [
        ("primary", "Primary care or optometry"),
        ("screening", "Diabetic or general screening"),
        ("clinic", "Clinic"),
        ("referral", "Referral or university hospital"),
        ("cohort", "Research cohort"),
        ("ward", "Ward"),
        ("unknown", "Not known yet"),
    ]
    assert [code for code, _ in options.choices("labels")][-4:] == ["pneumothorax", "other", "none", "unknown"]


def test_answers_of_the_profile_that_do_not_fit_are_named(chest_folder, db):
    chests.edit(chest_folder, 'ward = "Hospital ward"', 'ward = " "\nunknown = "Not sure"\n"X-ray room" = "X-ray room"')
    chests.edit(chest_folder, "[profile.labels]", "[profile.diseases]")
    with pytest.raises(BlueprintInvalid) as refused:
        reading.read(chest_folder)
    own = "is no code of its own: small letters, digits and underscores, at most 40."
    assert refused.value.problems == [
        "programme.toml: profile.care_settings.ward: is empty.",
        f"programme.toml: profile.care_settings.unknown: {own}",
        f"programme.toml: profile.care_settings.X-ray room: {own}",
        "programme.toml: profile.diseases: is not a key of this table. It has: care_settings, labels.",
    ]


def test_a_task_is_registered_once_its_data_set_is_there(chest_folder, db):
    chests.apply(chest_folder)
    programme = Programme.objects.get()
    dataset = publishing.dataset(programme)
    chests.edit(chest_folder, "chest-images", dataset.slug)
    assert "Registered the task Pneumothorax." in chests.apply(chest_folder)
    assert [task.slug for task in programme.tasks.all()] == ["pneumothorax"]
    assert chests.apply(chest_folder) == [
        "The seat of chest@example.org waits: no account with this verified address. Apply again later."
    ]
    chests.edit(chest_folder, 'label = "pneumothorax"', 'label = "effusion"')
    with pytest.raises(BlueprintInvalid, match=r"tasks\[1\].slug: a task pneumothorax is registered on other data"):
        chests.apply(chest_folder)


def test_a_changed_text_says_what_changed(chest_folder, db):
    chests.apply(chest_folder)
    (chest_folder / "agreement.md").write_text("# Chest agreement\n\nAnother text.\n")
    chests.edit(chest_folder, 'name = "Chest X-ray"', 'name = "Other"')
    with pytest.raises(BlueprintInvalid, match=r"agreements\[1\].change_note: the text differs from Chest agreement"):
        chests.apply(chest_folder)
    assert Programme.objects.get().name == "Chest X-ray"  # nothing of a refused folder stays


def test_a_version_of_a_base_model_is_its_bytes(chest_folder, db):
    chests.apply(chest_folder)
    chests.change_weights(chest_folder / "cxr-64")
    with pytest.raises(
        BlueprintInvalid, match=r"base_models\[1\].folder: cxr-64 1.0.0 is registered with other weights"
    ):
        chests.apply(chest_folder)


def test_a_config_that_changed_under_the_same_weights_is_told_to_stay_as_it_was(chest_folder, db):
    chests.apply(chest_folder)
    chests.edit(chest_folder / "cxr-64", '"min_contrast": 0.04', '"min_contrast": 0.01', file="config.json")
    done = chests.apply(chest_folder)
    sentence = "cxr-64 1.0.0 was registered with another config.json, which stays. Give the new one another version."
    assert sentence in done
    assert BaseModel.objects.get().config["checks"]["min_contrast"] == 0.04


def test_a_base_model_that_is_registered_is_judged_no_more(chest_folder, db):
    chests.apply(chest_folder)
    chests.edit(chest_folder / "cxr-64", '"sampling_steps": 20', '"sampling_step": 20', file="config.json")
    assert "which stays. Give the new one another version." in chests.apply(chest_folder)[-1]


def test_a_base_model_that_no_check_could_use_is_refused_before_anything_is_made(chest_folder, db):
    chests.edit(chest_folder / "cxr-64", '"sampling_steps": 20', '"sampling_step": 20', file="config.json")
    with pytest.raises(
        BlueprintInvalid, match=r"base_models\[1\].folder: cxr-64/config.json: sampling_steps is missing"
    ):
        chests.apply(chest_folder)
    assert not Programme.objects.exists()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('kinds = ["weights"]', 'kinds = ["wieghts"]', "kinds: “wieghts” is not one of weights, synthetic, images."),
        ('name = "Chest X-ray"', "", "name: is missing. Give a text."),
        ('name = "Chest X-ray"', "name = 7", "name: is not a text."),
        ('slug = "chest-xray"', 'slug = "chest xray"', "slug: “chest xray” may hold only letters, digits, hyphens and"),
        ("purposes", "purpose", "purpose: is not a key of this table. It has: agreements, base_models, board, checks,"),
        ("run = [0, 1, 4, 5]", "run = [0, 4, 5]", "checks.run: leaves out 1. No programme goes without these checks."),
        ("run = [0, 1, 4, 5]", "run = [0, 1, 2, 4, 5, 6, 9]", "checks.run: has 9 without 7, which draws the images "),
        ("run = [0, 1, 4, 5]", "run = [0, 1, 4, 5, 99]", "checks.run: “99” is not one of 0, 1, 2, 4, 5, 6, 7, 8, 9"),
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
def test_what_is_wrong_is_named_by_file_and_key(chest_folder, db, old, new, problem):
    chests.edit(chest_folder, old, new)
    with pytest.raises(BlueprintInvalid) as caught:
        chests.apply(chest_folder)
    assert [line for line in caught.value.problems if line.startswith(f"programme.toml: {problem}")]
    assert not Programme.objects.exists()


def test_every_problem_is_told_at_once(chest_folder, db):
    chests.edit(chest_folder, 'name = "Chest X-ray"', "")
    chests.edit(chest_folder, 'role = "chair"', 'role = "king"')
    with pytest.raises(CommandError) as caught:
        call_command("apply_programme", str(chest_folder), "--check")
    assert "name: is missing" in str(caught.value)
    assert "“king”" in str(caught.value)


def test_the_command_says_what_it_did_and_who_did_it(chest_folder, operator, capsys):
    call_command("apply_programme", str(chest_folder), "--by", operator.email)
    assert "Created the programme Chest X-ray." in capsys.readouterr().out
    assert AuditEvent.objects.get(verb="programme.created").actor_id == operator.pk
    call_command("apply_programme", str(chest_folder), "--check")
    assert capsys.readouterr().out == "chest-xray: the folder is in order.\n"
    with pytest.raises(CommandError, match="not the address of an operator"):
        call_command("apply_programme", str(chest_folder), "--by", "nobody@example.org")


@pytest.mark.parametrize("name", ["retina", "chest-xray"])
def test_the_folders_we_ship_can_be_applied(db, name):
    done = chests.apply(SHIPPED / name)
    assert done[0].startswith("Created the programme")
    assert [line for line in chests.apply(SHIPPED / name) if "waits for the data set" not in line] == []
    programme = Programme.objects.get(slug=name)
    assert programme.base_models.count() == (1 if name == "retina" else 0)
    assert agreements.current(programme) is not None


def test_a_folder_without_the_file_is_no_programme(tmp_path):
    with pytest.raises(BlueprintInvalid, match="has no readable programme.toml"):
        reading.read(tmp_path)
