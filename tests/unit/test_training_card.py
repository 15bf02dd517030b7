"""The rules of the training card: what must be there, what may be unknown, which counts are too small to tell."""

import pytest

from jobs.kit import cards, dp

CARD = {
    "images": 812, "patients": 402, "steps": 400, "batch_size": 16, "learning_rate": 1e-4, "seed": 1,
    "augmentation": {"flip": True}, "deduplication": "by file hash", "dp": {"used": False},
    "cameras": {"Topcon NW400": 700}, "demographics": "female 52 %, type 2 diabetes in all",
}  # fmt: skip


def found(**changed: object) -> list[tuple[str, bool]]:
    return [(problem.field, problem.missing) for problem in cards.problems({**CARD, **changed})]


def test_a_complete_card_has_no_problem():
    assert found() == []


@pytest.mark.parametrize("field", CARD)
def test_every_field_is_asked_for(field):
    card = {key: value for key, value in CARD.items() if key != field}
    assert [(problem.field, problem.missing) for problem in cards.problems(card)] == [(field, True)]


@pytest.mark.parametrize("unknown", [None, "unknown"])
@pytest.mark.parametrize("field", CARD)
def test_unknown_is_an_answer_where_a_site_may_not_know(field, unknown):
    allowed = field in {"patients", "seed", "cameras", "demographics"}
    text = field in {"augmentation", "deduplication"}  # `unknown` is a text there, but must be known
    assert found(**{field: unknown}) == ([] if allowed else [(field, True)]), text


@pytest.mark.parametrize("count", range(1, 10))
def test_groups_of_one_to_nine_are_not_told(count):
    assert found(images=count) == [("images", False)]
    assert found(patients=count) == [("patients", False)]
    assert found(cameras={"Topcon": 800, "Zeiss": count}) == [("cameras", False)]
    assert found(demographics={"female": count}) == [("demographics", False)]
    assert found(demographics=f"female: {count}") == [("demographics", False)]
    assert found(demographics=f"male = 40, female = {count}, other = 12") == [("demographics", False)]


def test_ten_and_less_than_ten_are_told():
    assert found(images=10, patients="<10", cameras={"Topcon": "<10"}, demographics={"female": 10}) == []


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("images", 0),
        ("images", -5),
        ("images", 81.2),
        ("images", True),
        ("images", "many"),
        ("steps", 0),
        ("steps", 10**9),
        ("steps", "400"),
        ("batch_size", 65_537),
        ("learning_rate", 0),
        ("learning_rate", 1),
        ("learning_rate", float("nan")),
        ("learning_rate", "1e-4"),
        ("seed", -1),
        ("seed", 2**63),
        ("augmentation", 3),
        ("deduplication", ["a"]),
        ("cameras", 3),
        ("dp", True),
        ("dp", {"used": "no"}),
        ("dp", {"used": True}),
        ("dp", {"used": True, "epsilon": 0, "delta": 1e-5}),
        ("dp", {"used": True, "epsilon": float("inf"), "delta": 1e-5}),
        ("dp", {"used": True, "epsilon": 3, "delta": 1}),
        ("dp", {"used": True, "epsilon": 3, "delta": 1e-5}),
        ("dp", {"used": True, "epsilon": 3, "delta": 1e-5, "noise_multiplier": 0, "sample_rate": 0.1}),
        ("dp", {"used": True, "epsilon": 3, "delta": 1e-5, "noise_multiplier": 1, "sample_rate": 1.1}),
        ("dp", {"used": True, "epsilon": 3, "delta": 1e-5, "noise_multiplier": 1e-160, "sample_rate": 0.1}),
        ("dp", {"used": True, "epsilon": 3, "delta": 1e-5, "noise_multiplier": dp.LEAST_NOISE, "sample_rate": 0.1}),
        ("dp", {"used": True, "epsilon": 3, "delta": 0.11, "noise_multiplier": 1, "sample_rate": 0.1}),
        ("dp", {"used": True, "epsilon": 3, "delta": 1 / 811, "noise_multiplier": 1, "sample_rate": 0.1}),
        ("dp", {"used": True, "epsilon": 3, "delta": 1e-5, "noise_multiplier": 1, "sample_rate": 0.019}),
    ],
)
def test_values_outside_their_range_are_wrong(field, wrong):
    assert found(**{field: wrong}) == [(field, False)]


def test_declared_differential_privacy_is_right():
    assert found(dp={"used": True, "epsilon": 3.0, "delta": 1e-5, "noise_multiplier": 1, "sample_rate": 1}) == []


@pytest.mark.parametrize("card", [None, [], "card", 3])
def test_a_card_is_an_object(card):
    assert [problem.sentence for problem in cards.problems(card)] == ["The training card must be a JSON object."]


def test_a_card_has_a_limit():
    assert len(found(note="x" * cards.MAX_BYTES)) == 1
    assert found(note="x" * 1000) == []


def test_a_card_is_not_nested_deeply():
    deep: object = "bottom"
    for _ in range(900):
        deep = [deep]
    assert [problem.sentence for problem in cards.problems({**CARD, "note": deep})] == [
        "The training card is nested too deeply. Leave out what nobody asked for."
    ]
    assert found(augmentation={"crop": {"scale": [0.9, 1.0]}}) == []


def test_the_base_of_the_card_is_the_base_of_the_contribution():
    card = {**CARD, "base": {"sha256": "a" * 64}}
    assert cards.problems(card, base_sha256="a" * 64) == []
    assert [problem.missing for problem in cards.problems(card, base_sha256="b" * 64)] == [False]


def test_small_groups_are_hidden():
    card = {"images": 9, "patients": None, "cameras": {"A": 1, "B": 10, "C": "<10"}, "seed": 5, "demographics": "text"}
    assert cards.suppress_small_cells(card) == {
        "images": "<10", "patients": None, "cameras": {"A": "<10", "B": 10, "C": "<10"}, "seed": 5,
        "demographics": "text",
    }  # fmt: skip


def test_a_card_is_read_back_in_words():
    read = dict(cards.read_back({**CARD, "patients": None, "steps": 12_000, "kit_version": "0.1.0"}))
    assert (
        read["Patients"],
        read["Steps"],
        read["Augmentation"],
        read["Differential privacy"],
        read["Kit version"],
    ) == (
        "Unknown",
        "12,000",
        "flip: Yes",
        "Not used",
        "0.1.0",
    )
    assert dict(cards.read_back({}))["Images"] == "Not filled in"


# Of the site: nobody has to answer


SITE = {
    "years": "2015-2024",
    "labels": {"no DR": 400, "PDR": "<10"},
    "exclusions": "Children.",
    "ethics_reference": "HREC/2026/9",
}


def test_what_a_site_tells_beyond_the_training_is_kept_and_judged():
    assert cards.problems(CARD | SITE) == []
    assert cards.problems(CARD | dict.fromkeys(SITE, "unknown")) == []
    told = dict(cards.read_back(CARD | SITE))
    assert (told["Years of the photographs"], told["Labels"]) == ("2015-2024", "no DR: 400; PDR: <10")
    assert "Labels" not in dict(cards.read_back(CARD))


@pytest.mark.parametrize(
    ("field", "value", "wrong"),
    [
        ("years", "12 May 2015", "must be a year or a range of years"),
        ("years", "2024-2015", "must run from an earlier to a later year"),
        ("years", 2015, "must be a year or a range of years"),
        ("labels", {"PDR": 4}, "(PDR) is 4: a group this small can point at people. Write <10 instead."),
        ("labels", "PDR: 4", "is 4: a group this small can point at people."),
        ("exclusions", 5, "must be a text"),
        ("exclusions", {"blurred": 5}, "(blurred) is 5: a group this small"),
        ("demographics", {"female": {"60-69": 3}}, "(60-69) is 3: a group this small can point at people."),
        ("demographics", {"female": "3"}, "(female) is 3: a group"),
        ("demographics", {"female": 3.0}, "(female) is 3: a group"),
        ("demographics", {"ages": [40, 3]}, "(ages) is 3: a group"),
        ("demographics", "Female 3, male 40", "is 3: a group"),
        ("demographics", "40 adults; children 3", "is 3: a group"),
        ("labels", {"PDR": {"n": 2}}, "(n) is 2: a group"),
        ("demographics", "3 men, 900 women", "is 3: a group"),
        ("demographics", "900 women and 3 men", "is 3: a group"),
        ("demographics", "female: 3 patients; male: 40", "is 3: a group"),
        ("demographics", "female: 3 (0.7 %), male: 400", "is 3: a group"),
        ("demographics", "female: 0, male: 3", "is 3: a group"),
        ("demographics", "女：3，男：40", "is 3: a group"),
        ("demographics", "أنثى: ٣، ذكر: ٤٠", "is 3: a group"),
        ("demographics", {"أنثى": "٣"}, "(أنثى) is 3: a group"),
        ("demographics", {"female": "3 patients"}, "(female) is 3: a group"),
        ("demographics", {"female": "3 (0.7 %)"}, "(female) is 3: a group"),
        ("cameras", {"Topcon": "3 images"}, "(Topcon) is 3: a group"),
        ("demographics", {"Sex": "412 female, 7 male"}, "(Sex) is 7: a group"),
        ("demographics", {"Sex": ["412 female", "male 7"]}, "(Sex) is 7: a group"),
        ("cameras", {"Topcon": "NW400: 7, NW500: 40"}, "(Topcon) is 7: a group"),
        ("exclusions", "Of poor quality: 3 eyes", "is 3: a group"),
        ("exclusions", "Left out: 3 patients with cataract", "is 3: a group"),
        ("sites", {"A": 2}, "Sites (A) is 2: a group"),
    ],
)
def test_what_points_at_people_is_refused_there_too(field, value, wrong):
    [problem] = cards.problems(CARD | {field: value})
    assert (problem.field, wrong in problem.sentence, problem.missing) == (field, True, False)


def test_small_cells_are_written_as_fewer_than_ten_however_deep_they_lie():
    card = {"demographics": {"female": {"60-69": 3, "70-79": 30}, "male": "4"}, "sites": [{"n": 2.0}, 20], "steps": 5,
            "adapter": {"rank": 4}, "dp": {**CARD["dp"], "epsilon": 8.0}}  # fmt: skip
    hidden = cards.suppress_small_cells(card)
    assert hidden == {**card, "demographics": {"female": {"60-69": "<10", "70-79": 30}, "male": "<10"},
                      "sites": [{"n": "<10"}, 20]}  # fmt: skip
    assert [problem.field for problem in cards.problems(CARD | hidden) if not problem.missing] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cameras", "Kowa nonmyd 7, Canon CR-2"),
        ("demographics", "Adults with diabetes mellitus type 2"),
        ("demographics", "diabetes type 1, type 2 and gestational"),
        ("demographics", "type 2 patients: 400, ages 5 to 9 children: 40"),
        ("cameras", "Topcon: 2 images per eye, 4 000 in all"),
        ("cameras", {"Topcon": "2 images per eye, 4 000 in all", "Kowa": "nonmyd 7"}),
        ("demographics", {"Diagnosis": "diabetes type 1, type 2 and gestational"}),
        ("labels", "ICDR grades 0 to 4"),
        ("labels", "Graded by one ophthalmologist and 2 persons in training; 3 people adjudicated"),
        ("exclusions", "only 1 photograph of either eye, 2 images of the disc"),
        ("cameras", "Kept: 1 eye a patient"),
        ("exclusions", "quality below 3, media opacities"),
        ("exclusions", "retinopathy above grade 2; blurred"),
        ("epochs", 3),
        ("optimizer", {"name": "AdamW", "warmup_epochs": 5}),
    ],
)
def test_numbers_that_are_no_groups_are_kept(field, value):
    assert cards.problems(CARD | {field: value}) == []
    assert cards.suppress_small_cells({field: value}) == {field: value}


@pytest.mark.parametrize(("piece", "count"), [(" ", 12_000), ("a: ", 4_000), ("\n", 7_000), ("3 (", 4_000)])
def test_a_text_made_to_be_read_for_hours_is_read_at_once(piece, count):
    text = f"1{piece * count}x"
    told = [problem.field for problem in cards.problems({"demographics": {"a": text}}) if not problem.missing]
    assert told == ["demographics"] * (piece == "\n")  # its first line is a count: "a: 1"
    assert [problem.field for problem in cards.problems({"demographics": text}) if not problem.missing] == []


def test_small_cells_of_labels_are_written_as_fewer_than_ten():
    assert cards.suppress_small_cells({"labels": {"PDR": 4, "no DR": 40}}) == {"labels": {"PDR": "<10", "no DR": 40}}
    written = {"labels": {"PDR": "4 eyes", "NPDR": "٤", "no DR": "40 eyes"}, "demographics": "3 men and 40 women"}
    hidden = {"PDR": "<10", "NPDR": "<10", "no DR": "40 eyes"}
    assert cards.suppress_small_cells(written) == {**written, "labels": hidden}
