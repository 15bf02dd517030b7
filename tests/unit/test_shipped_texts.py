"""The texts that come with the portal: complete in every language, and ready to be rendered."""

import re
from collections import Counter

import pytest

from portal.agreements import rendering, shipped

NAMES = ["dua-1", "dua-2", "annex-images-1"]
PARTICULARS = [
    "institution",
    "principal_investigator",
    "covered",
    "ethics_reference",
    "kinds",
    "use_codes",
    "purposes",
    "transfer_limits",
    "expires_on",
]


def numbers(text: str) -> list[str]:
    """The numbers of sections and paragraphs, in order."""
    return re.findall(r"^(?:## )?(\d+\.(?:\d+)?) ", text, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_stored_as_they_are_written(name):
    entry = shipped.entry(name)
    for reading in (entry, *entry.translations.values()):
        assert rendering.normalised(reading.text) == reading.text


@pytest.mark.parametrize("name", NAMES)
def test_every_section_has_a_side_note(name):
    entry = shipped.entry(name)
    for reading in (entry, *entry.translations.values()):
        sections = re.findall(r"^## (\d+)\. ", reading.text, re.MULTILINE)
        assert sorted(reading.side_notes) == sorted(["0", *sections])
        assert all(reading.side_notes.values())


def test_the_agreement_names_the_particulars():
    assert rendering.variables_of(shipped.entry("dua-1").text) == PARTICULARS
    assert rendering.variables_of(shipped.entry("dua-2").text) == PARTICULARS
    assert set(rendering.variables_of(shipped.entry("annex-images-1").text)) <= set(PARTICULARS)


@pytest.mark.parametrize("name", ["dua-1", "dua-2"])
def test_translations_have_the_same_paragraphs_and_say_what_binds(name):
    entry = shipped.entry(name)
    assert list(entry.translations) == ["es", "fr"]
    warnings = ["el texto en inglés", "seul le texte anglais"]
    for reading, warning in zip(entry.translations.values(), warnings, strict=True):
        assert numbers(reading.text) == numbers(entry.text)
        assert rendering.variables_of(reading.text) == PARTICULARS
        assert warning in reading.text.partition("\n## ")[0]
        assert reading.text.count("**") == entry.text.count("**")


@pytest.mark.parametrize(("version", "figures"), [("dua-1", {"72", "30"}), ("dua-2", {"48", "14"})])
def test_translations_give_the_same_figures(version, figures):
    entry = shipped.entry(version)
    for reading in (entry, *entry.translations.values()):
        found = Counter(re.findall(r"\d+", reading.text))
        assert figures <= set(found)
        assert found == Counter(re.findall(r"\d+", entry.text))
