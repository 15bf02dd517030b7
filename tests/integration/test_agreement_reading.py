"""Reading an agreement: side notes, languages, versions, what has changed, the exact bytes."""

import hashlib

import pytest
from django.urls import reverse
from django.utils import timezone

from portal.agreements import services, shipped
from portal.agreements.models import Agreement, AgreementVersion
from portal.agreements.reading import clauses
from tests import factories

SLUG = "shipped-agreement"
VALUES = {"covered", "expires_on"}


@pytest.fixture
def agreement(programme) -> Agreement:
    """The shipped data-use agreement in its first version, beside the short one of the other tests."""
    row = services.create_agreement(programme, slug=SLUG, title="Data-use agreement", by=None, now=timezone.now())
    publish(row, "dua-1", change_note="The first version.")
    return row


def publish(agreement: Agreement, name: str, **changes) -> AgreementVersion:
    fields = {"change_note": shipped.DUA_2_CHANGE_NOTE, "by": None, "now": timezone.now()}
    return services.publish(agreement, **shipped.entry(name).fields(), **fields | changes)


def address(name: str, *more: object) -> str:
    return reverse(f"agreements:{name}", args=["retina", SLUG, *more])


def test_the_sections_together_are_the_whole_text():
    entry = shipped.entry("dua-1")
    found = clauses(entry.text, entry.side_notes)
    assert [clause.number for clause in found] == [str(number) for number in range(15)]
    assert all(clause.note for clause in found)
    assert "<h2>2. Purpose</h2>" in found[2].html
    assert '<span class="blank">ethics reference</span>' in found[0].html


def test_a_text_without_sections_is_one_clause():
    (only,) = clauses("# A\n\nB\n", {"1": "never shown"})
    assert (only.number, only.note) == ("0", "")


def test_anybody_reads_the_agreement_with_notes_and_can_hash_its_bytes(client, agreement):
    page = client.get(address("read", 1))
    assert page.context["language"] == "en"
    assert "portal Data-use agreement" not in page.text  # the footer names the portal's own version
    assert "Machines check first, then the board decides" in page.text
    assert agreement.versions.get().sha256 in page.text
    raw = client.get(address("text", 1))
    assert raw.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert hashlib.sha256(raw.content).hexdigest() == agreement.versions.get().sha256


def test_a_translation_says_that_the_english_text_binds(client, agreement):
    page = client.get(address("read", 1), {"language": "es"})
    assert "Translation: the English text binds" in page.text
    assert "Acuerdo de uso de datos" in page.text
    assert "Primero comprueban las máquinas" in page.text
    assert '<div class="document" lang="es">' in page.text
    translation = agreement.versions.get().translations.get(language="es")
    assert translation.sha256 in page.text
    assert agreement.versions.get().sha256 in page.text
    raw = client.get(address("text", 1, "es"))
    assert hashlib.sha256(raw.content).hexdigest() == translation.sha256
    assert "Translation:" not in client.get(address("read", 1), {"language": "en"}).text


@pytest.mark.parametrize("language", ["de", "..", "<b>"])
def test_a_language_that_is_not_there_is_not_found(client, agreement, language):
    assert client.get(address("read", 1), {"language": language}).status_code == 404


def test_versions_are_listed_with_their_change_notes(client, agreement):
    publish(agreement, "dua-2")
    page = client.get(address("read", 2))
    assert [(row.version, before) for row, before in page.context["versions"]] == [(2, 1), (1, None)]
    assert "A breach is reported within 48 hours" in page.text
    assert address("changes", 2, 1) in page.text
    assert "has replaced this text" not in page.text
    assert "Version 2 has replaced this text" in client.get(address("read", 1)).text
    assert client.get(address("read", 3)).status_code == 404


def test_changes_are_shown_word_by_word_and_the_rest_is_folded(client, agreement):
    publish(agreement, "dua-2")
    page = client.get(address("changes", 2, 1))
    assert page.context["counts"] == {"added": 2, "removed": 0, "changed": 3}
    for piece in ('<del><span class="vh">gone: </span>72', '<ins><span class="vh">new: </span>48', "New paragraph"):
        assert piece in page.text
    assert "8.4 Contributions are stored and processed only in the countries" in page.text
    folded = [stretch for stretch in page.context["stretches"] if stretch.is_folded]
    assert sum(len(stretch.blocks) for stretch in folded) > 40


@pytest.mark.parametrize(("new", "old"), [(1, 1), (1, 2), (2, 2), (2, 9)])
def test_there_are_no_changes_backwards(client, agreement, new, old):
    publish(agreement, "dua-2")
    assert client.get(address("changes", new, old)).status_code == 404


def test_a_reader_is_led_to_the_changes_since_the_version_that_was_signed(sign_in, institution, steward, outsider):
    row = Agreement.objects.get(slug="data-use-agreement")
    services.publish(row, text="# Newer\n", change_note="All of it.", by=None, now=timezone.now())
    read = reverse("agreements:read", args=["retina", row.slug, 2])
    changes = reverse("agreements:changes", args=["retina", row.slug, 2, 1])
    assert sign_in(steward).get(read).context["signed_before"] == 1
    assert "Your institution signed version 1." in sign_in(steward).get(read).text
    assert changes in sign_in(steward).get(read).text
    stranger = factories.user("Nora Nowhere")
    assert sign_in(stranger).get(read).context["signed_before"] is None


def test_old_addresses_lead_to_the_data_use_agreement(client, programme):
    page = client.get("/agreements/retina/1/")
    assert (page.status_code, page.headers["Location"]) == (301, "/agreements/retina/data-use-agreement/1/")
    raw = client.get("/agreements/retina/1/text.md")
    assert (raw.status_code, raw.headers["Location"]) == (301, "/agreements/retina/data-use-agreement/1/text.md")
    assert client.get("/agreements/retina/1/", follow=True).status_code == 200


def test_the_text_is_shown_without_what_could_run(client, programme):
    row = Agreement.objects.get(slug="data-use-agreement")
    text = "# A\n\n<script>alert(1)</script> [x](javascript:alert(1)) ![y](https://z.example/p.png)\n"
    notes = {"0": "<script>alert(2)</script>"}
    services.publish(row, text=text, side_notes=notes, change_note="<b>", by=None, now=timezone.now())
    page = client.get(reverse("agreements:read", args=["retina", row.slug, 2])).text
    article = page.partition("<article")[2].partition("</article>")[0]
    assert "<script>alert" not in page
    assert 'href="javascript' not in page
    assert "p.png" not in article
    changes = client.get(reverse("agreements:changes", args=["retina", row.slug, 2, 1])).text
    assert "<script>alert" not in changes


def test_reading_costs_the_same_with_2_and_with_20_versions(client, agreement, django_assert_num_queries):
    publish(agreement, "dua-2")
    with django_assert_num_queries(QUERIES):
        client.get(address("read", 2))
    for _ in range(18):
        services.publish(agreement, text="# More\n", change_note="More.", by=None, now=timezone.now())
    with django_assert_num_queries(QUERIES):
        client.get(address("read", 20))


QUERIES = 3  # the version, its translations, the versions
