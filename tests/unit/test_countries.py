"""The table of countries and M49 sub-regions."""

from portal import maps
from portal.institutions import countries


def test_table_has_every_entry_of_iso_3166_1() -> None:
    assert len(countries.countries()) == 249


def test_subregions_are_those_of_m49_with_the_intermediate_regions() -> None:
    assert sorted(countries.subregions()) == sorted(maps.geometry()["regions"])
    assert len(countries.subregions()) - 1 == 22  # less Antarctica


def test_some_countries_lie_where_m49_puts_them() -> None:
    found = {code: countries.subregion_of(code).name for code in ("KE", "BR", "MX", "JM", "TW", "NR", "CY", "GB")}
    assert found == {
        "KE": "Eastern Africa",
        "BR": "South America",
        "MX": "Central America",
        "JM": "Caribbean",
        "TW": "Eastern Asia",
        "NR": "Micronesia",
        "CY": "Western Asia",
        "GB": "Northern Europe",
    }
