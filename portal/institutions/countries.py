"""Countries and UN M49 regions, from m49.csv (United Nations Statistics Division, standard M49)."""

import csv
import functools
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Region:
    """A UN M49 sub-region: three-digit code and name, inside a region (continent)."""

    code: str
    name: str
    region_code: str
    region: str


@dataclass(frozen=True)
class Country:
    """A country or area of M49: ISO 3166-1 alpha-2, name, sub-region."""

    alpha2: str
    name: str
    subregion: Region


@functools.cache
def countries() -> dict[str, Country]:
    """Return every country or area by its ISO 3166-1 alpha-2 code."""
    with (Path(__file__).parent / "m49.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["alpha2"]: Country(
                row["alpha2"],
                row["name"],
                Region(row["subregion_code"], row["subregion"], row["region_code"], row["region"]),
            )
            for row in csv.DictReader(file)
        }


def subregion_of(alpha2: str) -> Region:
    """Return the M49 sub-region of a country. Raises KeyError for a code that M49 does not have."""
    return countries()[alpha2].subregion


@functools.cache
def subregions() -> dict[str, Region]:
    """Return every sub-region by its M49 code, by name."""
    found = {country.subregion.code: country.subregion for country in countries().values()}
    return dict(sorted(found.items(), key=lambda item: item[1].name))


def choices() -> list[tuple[str, str]]:
    """Return (alpha-2, name) for a form, by name."""
    return sorted(((country.alpha2, country.name) for country in countries().values()), key=lambda choice: choice[1])
