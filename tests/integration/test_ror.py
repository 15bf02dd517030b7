"""The local copy of ROR: the file that is shipped, the dump that replaces it, the search in both."""

import csv
import json
import zipfile
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from portal.institutions import countries, registry, ror
from portal.institutions.models import RorOrganisation
from tests import factories


def record(ror_id: str, name: str, *, country: str = "KE", status: str = "active", **more: object) -> dict[str, object]:
    """A record as the dump's schema version 2 has it."""
    return {
        "id": f"https://ror.org/{ror_id}",
        "status": status,
        "types": ["education", "funder"],
        "established": 1956,
        "names": [
            {"value": name, "types": ["ror_display", "label"], "lang": "en"},
            *more.get("names", []),  # type: ignore[misc]
        ],
        "locations": [
            {
                "geonames_id": 184745,
                "geonames_details": {
                    "name": "Nairobi", "country_code": country, "country_name": "Kenya", "lat": -1.28, "lng": 36.8,
                    "continent_code": "AF", "continent_name": "Africa", "country_subdivision_code": "30",
                    "country_subdivision_name": "Nairobi",
                },
            }
        ],
        "links": [
            {"type": "wikipedia", "value": "https://en.wikipedia.org/wiki/X"},
            {"type": "website", "value": "https://www.example.org"},
        ],
        "external_ids": [], "relationships": [], "domains": [],
        "admin": {
            "created": {"date": "2018-11-14", "schema_version": "1.0"},
            "last_modified": {"date": "2024-12-11", "schema_version": "2.1"},
        },
    }  # fmt: skip


RECORDS = [
    record("02y9nww90", "University of Nairobi", names=[{"value": "UoN", "types": ["acronym"], "lang": None}]),
    record(
        "02v51f717",
        "Peking University",
        country="CN",
        names=[{"value": "北京大学", "types": ["label"], "lang": "zh"}],
    ),
    record("02en5vm52", "Sorbonne Université", country="FR"),
    record("025e3rc84", "Royal University", names=[{"value": "សាកលវិទ្យាល័យ", "types": ["label"], "lang": "km"}]),
    record("04h9pn542", "Gone University", status="withdrawn"),
    record("04h9pn543", "Wrong Digits University"),
    record("03v76x132", "Nowhere University", country="XK"),
]


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "v1.99-2026-11-01-ror-data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("v1.99-2026-11-01-ror-data.json", json.dumps([{"id": "old schema"}]))
        archive.writestr("v1.99-2026-11-01-ror-data_schema_v2.json", json.dumps(RECORDS))
    return path


def names(text: str) -> list[str]:
    return [row.name for row in registry.search(text)]


def test_every_row_of_the_shipped_file_has_a_valid_id_and_a_known_country():
    with (Path(registry.__file__).parent / "ror.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 150
    assert len({row["ror_id"] for row in rows}) == len(rows)
    assert [row["name"] for row in rows if not ror.is_valid(row["ror_id"])] == []
    assert {row["country"] for row in rows} - set(countries.countries()) == set()
    regions = {countries.subregion_of(row["country"]).region for row in rows}
    assert regions == {"Africa", "Americas", "Asia", "Europe", "Oceania"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("oxford", "University of Oxford"),
        ("univ oxf", "University of Oxford"),
        ("ZURICH eth", "ETH Zurich"),
        ("zürich eth", "ETH Zurich"),
        ("大学 北京", "Peking University"),
        ("京大学", "Peking University"),
        ("جامعة القاهرة", "Cairo University"),
        ("king's coll", "King's College London"),
        ("lvpei", "L V Prasad Eye Institute"),
    ],
)
def test_the_shipped_file_answers_while_the_table_is_empty(db, text, name):
    assert name in names(text)


def test_a_dump_replaces_the_table_and_is_searched_in_any_script(db, dump, capsys):
    call_command("load_ror", dump)
    assert "4 organisations" in capsys.readouterr().out
    row = RorOrganisation.objects.get(pk="02v51f717")
    assert (row.name, row.local_name, row.country, row.city, row.website) == (
        "Peking University", "北京大学", "CN", "Nairobi", "https://www.example.org",
    )  # fmt: skip
    assert names("oxford") == []  # the file is not asked any more
    assert names("univ") == ["University of Nairobi", "Royal University", "Peking University", "Sorbonne Université"]
    assert names("nairobi universi") == names("uon") == ["University of Nairobi"]
    assert names("sorbonne universite") == ["Sorbonne Université"]
    assert names("大学") == ["Peking University"]
    assert names("វិទ្យា") == ["Royal University"]
    assert names("u") == names("%") == names("'") == names("") == []
    assert names("uni' & (:*") == names("uni")  # a word of the query is data, never syntax


def test_a_second_dump_takes_away_what_it_lacks(db, tmp_path, dump):
    call_command("load_ror", dump)
    smaller = tmp_path / "dump.json"
    smaller.write_text(json.dumps(RECORDS[:1]), encoding="utf-8")
    call_command("load_ror", smaller)
    assert list(RorOrganisation.objects.values_list("name", flat=True)) == ["University of Nairobi"]


@pytest.mark.parametrize(
    "content", ["not json", json.dumps([{"names": []}]), json.dumps([record("02y9nww90", "A")] * 2)]
)
def test_a_broken_dump_leaves_the_old_copy(transactional_db, tmp_path, dump, content):
    call_command("load_ror", dump)
    broken = tmp_path / "broken.json"
    broken.write_text(content, encoding="utf-8")
    with pytest.raises(CommandError, match="The old copy stays"):
        call_command("load_ror", broken)
    assert RorOrganisation.objects.count() == 4


def test_the_page_finds_members_first_and_fills_the_form(sign_in, researcher, programme):
    factories.admitted_institution("Oxford Road Eye Clinic")
    factories.draft_institution("Oxford Secret Clinic")
    client = sign_in(researcher)
    page = client.get(reverse("institutions:apply"), {"q": "oxford"})
    assert [row.name for row, _ in page.context["members"]] == ["Oxford Road Eye Clinic"]
    assert "Secret" not in page.text
    swapped = client.get(reverse("institutions:apply"), {"q": "oxford"}, headers={"HX-Request": "true"})
    assert "University of Oxford" in swapped.text
    assert "<html" not in swapped.text
    form = client.get(reverse("institutions:begin"), {"ror": "052gg0110"}).context["form"]
    assert (form["name"].value(), form["country"].value(), form["city"].value()) == (
        "University of Oxford",
        "GB",
        "Oxford",
    )
