"""The site's own pages: home, how to join, health, errors."""

import pytest
from django.urls import reverse

from portal.markdown import to_html
from tests import chest as chests
from tests import factories


def test_home_counts_members_and_nothing_else(client, programme):
    factories.member_institution("Moi Eye Clinic", country="KE", image_count=1200)
    factories.admitted_institution("Rift Clinic", country="KE")
    factories.admitted_institution("Andes Retina", country="PE", image_count=300)
    factories.applied_institution("Levante Ophthalmology", country="ES", image_count=99_000)
    response = client.get(reverse("home"))
    assert response.context["totals"] == {
        "institutions": 3,
        "countries": 2,
        "regions": 2,
        "photographs": 1500,
        "contributions": 0,
        "releases": 0,
    }
    counts = {row["name"]: row["count"] for row in response.context["regions"] if row["count"]}
    assert counts == {"Eastern Africa": 2, "South America": 1}
    assert len(response.context["regions"]) == 22
    assert "Levante" not in response.text


def test_home_tells_decisions_and_no_person(client, programme, board):
    institution = factories.member_institution("Moi Eye Clinic")
    factories.applied_institution("Levante Ophthalmology", country="ES")
    response = client.get(reverse("home"))
    assert [row.sentence for row in response.context["activity"]] == [
        "Moi Eye Clinic signed the data-use agreement",
        "Moi Eye Clinic joined the consortium",
    ]
    for person in [*board, factories.person_of(institution), factories.person_of(institution, "signing_official")]:
        assert person.name not in response.text


@pytest.mark.parametrize("item_count", [1, 3])
def test_home_needs_the_same_queries_for_any_number(client, programme, item_count, django_assert_num_queries):
    for number in range(item_count):
        factories.member_institution(f"Clinic {number}")
    # members, approved, releases counted, activity, their institutions, releases, kinds
    with django_assert_num_queries(7):
        client.get(reverse("home"))


@pytest.mark.parametrize("page", ["home", "join"])
@pytest.mark.parametrize(
    ("kinds", "is_open", "open_kinds", "not_open"),
    [
        (["weights"], True, {"weights"}, 2),
        (["weights", "synthetic", "images"], True, {"weights", "synthetic"}, 1),
        (["weights", "synthetic"], False, set(), 3),
    ],
)
def test_which_kinds_are_not_open_yet_is_said(client, programme, page, kinds, is_open, open_kinds, not_open):
    programme.kinds, programme.is_open = kinds, is_open
    programme.save(update_fields=["kinds", "is_open"])
    response = client.get(reverse(page))
    assert (response.context["open_kinds"], response.text.count("Not open yet")) == (open_kinds, not_open)


def test_the_home_page_is_headed_by_the_one_open_programme(client, chest_folder, db):
    chests.apply(chest_folder)
    assert "<h1>Hospitals train one model of the chest.</h1>" in client.get(reverse("home")).text
    factories.programme()
    several = client.get(reverse("home")).text
    assert "<h1>Hospitals of the world train foundation models together, and govern them together.</h1>" in several
    assert "of the chest." not in several


def test_home_works_on_an_empty_portal(client, db):
    response = client.get(reverse("home"))
    assert response.status_code == 200
    assert set(response.context["totals"].values()) == {0}
    assert response.context["activity"] == []


def test_the_table_of_regions_comes_as_csv(client, programme):
    factories.admitted_institution("Andes Retina", country="PE")
    lines = client.get(reverse("regions_csv")).text.splitlines()
    assert lines[:2] == ["m49,subregion,region,institutions,approved_contributions", "005,South America,Americas,1,0"]
    assert len(lines) == 23


def test_join_leads_to_the_agreement_before_there_is_an_account(client, programme):
    page = client.get(reverse("join"))
    url = reverse("agreements:read", args=["retina", "data-use-agreement", 1])
    assert f'href="{url}"' in page.text
    assert client.get(url).status_code == 200


def test_join_works_without_an_agreement(client, db):
    assert client.get(reverse("join")).status_code == 200


def test_health_answers(client, db):
    response = client.get(reverse("healthz"))
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_what_is_missing_is_a_page_for_people_and_a_problem_for_programs(client, db):
    page = client.get("/nowhere/")
    assert page.status_code == 404
    assert page.headers["Content-Type"].startswith("text/html")
    problem = client.get("/api/v1/nowhere")
    assert (problem.status_code, problem.json()["code"]) == (404, "not_found")
    assert problem.headers["Content-Type"] == "application/problem+json"


def test_what_is_refused_says_why(sign_in, institution, member):
    page = sign_in(member).get(reverse("institutions:edit", args=[institution.slug]))
    assert page.status_code == 403
    assert "Only a principal investigator or data steward of Moi Eye Clinic can do this." in page.text


@pytest.mark.parametrize(
    ("given", "html"),
    [
        ("**a** <b>x</b>", "<p><strong>a</strong> &lt;b&gt;x&lt;/b&gt;</p>"),
        ("[a](javascript:x)", "<p>[a](javascript:x)</p>"),
        ("[a](data:text/html,x)", "<p>[a](data:text/html,x)</p>"),
        ("[a](https://x.example)", '<p><a href="https://x.example" rel="noopener nofollow">a</a></p>'),
        ("![a](https://x.example/p.png)", "<p></p>"),
    ],
)
def test_markdown_becomes_safe_html(given, html):
    assert to_html(given).strip() == html
