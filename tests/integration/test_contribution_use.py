"""Where a contribution is used: corpora on record and told, models and images drawn from it, and its withdrawal."""

import html

import pytest
from django.utils import timezone

from contributions import services, versions
from contributions.corpora import services as corpora
from contributions.models import Contribution
from portal.audit.models import AuditEvent
from portal.institutions import merging
from portal.notifications.models import Notification
from tests import candidates, contributing, factories

pytestmark = pytest.mark.services


@pytest.fixture
def approved(institution, steward, base) -> Contribution:
    return contributing.at_status("approved", institution, base, by=steward)


def drawn(institution, base, generator: str, *, steward) -> Contribution:
    """Synthetic images before the board whose check of provenance read `generator` in them."""
    contribution = contributing.draft(institution, base, by=steward, kind="synthetic", title=f"Of {institution}")
    contributing.upload(contribution, str(institution).encode(), by=steward, name="images-00000.tar")
    contribution = services.submit(contribution, by=steward, now=timezone.now())
    services.begin_validation(contribution.pk, now=timezone.now())
    found = {1: {"images": 12}, 4: {"generator_sha256": generator}}
    for number, evidence in found.items():
        contributing.check(contribution, number, "pass", evidence=evidence, run_id=contribution.pk)
    services.promote_files(contribution.pk)
    return services.refer(contribution.pk, now=timezone.now())


@pytest.fixture
def images(institution, programme, approved, steward, base) -> Contribution:
    return drawn(institution, base, approved.files.get().sha256, steward=steward)


@pytest.fixture(autouse=True)
def takes_images(programme):
    programme.kinds = ["weights", "synthetic"]
    programme.save()


def corpus_of(programme, *contributions, by=None, title="Corpus of May", count=64):
    corpus = corpora.draft_corpus(programme, slug="may", title=title, by=by, now=timezone.now())
    for contribution in contributions:
        corpora.add_generator(corpus, contribution, image_count=count, seed=1, now=timezone.now(), by=by)
    return corpus


def withdrawn(contribution, by) -> Contribution:
    return services.withdraw(contribution, by=by, reason="A patient asked.", now=timezone.now())


def told(subject: str) -> set:
    return {row.recipient for row in Notification.objects.filter(subject=subject).select_related("recipient")}


def page_of(client, contribution, path: str = "") -> str:
    return html.unescape(" ".join(client.get(contribution.get_absolute_url() + path).content.decode().split()))


# Into a corpus, and out


def test_what_enters_a_corpus_and_leaves_it_is_on_record(approved, programme, steward, operator):
    data = candidates.dataset(programme)
    corpus = corpus_of(programme, approved, by=operator)
    corpora.add_dataset(corpus, data, image_count=60, by=operator)
    withdrawn(approved, steward)
    corpora.freeze(corpus, by=operator, now=timezone.now())
    verbs = ["contribution.entered_corpus", "dataset.entered_corpus", "contribution.left_corpus"]
    events = AuditEvent.objects.filter(verb__in=verbs).order_by("pk")
    assert list(events.values_list("verb", "subject", "actor_id", "institution_id")) == [
        (verbs[0], str(approved), operator.pk, approved.institution_id),
        (verbs[1], str(data), operator.pk, None),
        (verbs[2], str(approved), operator.pk, approved.institution_id),
    ]
    facts = {"corpus": "may", "title": "Corpus of May"}
    assert [event.facts for event in events] == [{**facts, "images": images} for images in (64, 60, 64)]
    assert corpus.parts.get().dataset == data


def test_the_history_says_which_corpus_and_how_many_images(sign_in, approved, programme, member, operator, steward):
    corpus = corpus_of(programme, approved, by=operator, count=1)
    withdrawn(approved, steward)
    corpora.freeze(corpus, by=operator, now=timezone.now())
    page = page_of(sign_in(member), approved)
    put = f"{operator.name} put images of {approved} into a corpus"
    left = f"{operator.name} left {approved} out of a corpus that was frozen"
    for sentence in (put, left):
        assert f'{sentence} <span class="quiet">Corpus of May, 1 image</span>' in page
    assert [row.note for row in versions.history(approved) if row.verb == corpora.ENTERED] == ["Corpus of May, 1 image"]


@pytest.mark.parametrize("number", [1, 3])
def test_freezing_asks_the_database_as_often_for_one_part_as_for_three(
    institution, base, programme, steward, django_assert_num_queries, number
):
    rows = [contributing.at_status("approved", institution, base, by=steward, content=b"%d" % i) for i in range(number)]
    corpus = corpus_of(programme, *rows)
    with django_assert_num_queries(7):
        corpora.freeze(corpus, by=None, now=timezone.now())


def test_the_institution_is_told_of_the_first_corpus_alone(approved, programme, institution, outsider):
    subject = f"{approved} is part of a corpus"
    corpus_of(programme, approved)
    people = set(factories.institutions.people(institution))
    assert told(subject) == people
    text = Notification.objects.filter(subject=subject).first().text
    assert text.startswith("Images sampled from it are in “Corpus of May”: 64.")
    second = corpora.draft_corpus(programme, slug="june", title="Corpus of June", by=None, now=timezone.now())
    corpora.add_generator(second, approved, image_count=64, seed=2, now=timezone.now())
    assert Notification.objects.filter(subject=subject).count() == len(people)
    assert outsider not in people


# Withdrawing


def test_the_others_of_the_institution_are_told_of_a_withdrawal(approved, institution, steward, outsider):
    withdrawn(approved, steward)
    subject = f"{approved} was withdrawn"
    assert told(subject) == set(factories.institutions.people(institution)) - {steward}
    row = Notification.objects.filter(subject=subject).first()
    assert row.text == (
        f"{{person:{steward.pk}}} withdrew it: “A patient asked.” Where it was used, and what becomes of its files, is "
        "here:"
    )
    assert row.path == approved.get_absolute_url()


def test_the_people_of_what_it_was_merged_into_are_told(approved, institution, outsider, operator, steward):
    into = outsider.memberships.get().institution
    merging.merge(institution, into, by=operator, now=timezone.now())
    approved.refresh_from_db()
    withdrawn(approved, outsider)
    assert told(f"{approved} was withdrawn") == set(factories.institutions.people(into)) - {outsider}


def test_a_withdrawn_contribution_shows_for_good_what_learnt_from_it(
    sign_in, approved, programme, board, operator, steward, member
):
    mixture = candidates.corpus(programme, approved)
    release = candidates.released(candidates.candidate(programme, mixture=mixture))
    client = sign_in(member)
    page = page_of(client, approved)
    assert ("Where it is used" in page, "it stays as it is" in page) == (True, False)
    withdrawn(approved, steward)
    page = page_of(client, approved)
    shown = ["Where it was used", "Corpus of squares", "8 images sampled from it", "it stays as it is", "released as"]
    assert [word for word in shown if word not in page] == []
    assert f'<a href="{release.get_absolute_url()}">{release}</a>' in page


def test_what_no_corpus_holds_says_so_after_a_withdrawal(sign_in, approved, steward, base, institution):
    withdrawn(approved, steward)
    client = sign_in(steward)
    assert "Nowhere: no corpus holds images of it" in page_of(client, approved)
    draft = contributing.at_status("withdrawn", institution, base, by=steward)
    assert "Where it was used" not in page_of(client, draft)


def test_images_drawn_from_a_generator_are_named_before_and_after(
    sign_in, approved, images, programme, operator, steward
):
    services.approve(images.pk, by=None, now=timezone.now())
    corpora.freeze(corpus_of(programme, images), by=operator, now=timezone.now())
    client, reading = sign_in(steward), sign_in(operator)
    link = f'Drawn from it, by their own word: <a href="{images.get_absolute_url()}">{images}</a>'
    assert link in page_of(client, approved, "withdraw/")
    withdrawn(approved, steward)
    for page in (page_of(client, approved), page_of(reading, approved)):
        assert link in page
        assert "<strong>Corpus of May</strong>, 12 images of them" in page
        assert "they stay in use until they are withdrawn too" in page
    assert link not in page_of(client, images)


def test_images_of_another_institution_are_named_to_who_may_see_them(
    sign_in, approved, base, outsider, steward, operator
):
    theirs = outsider.memberships.get().institution
    others = drawn(theirs, base, approved.files.get().sha256, steward=outsider)
    drawn(approved.institution, base, "0" * 64, steward=steward)
    assert list(versions.drawn_from(approved)) == [others]
    assert list(versions.use_of(approved, steward)["drawn"]) == []
    assert list(versions.use_of(approved, operator)["drawn"]) == [others]
    assert str(others) not in page_of(sign_in(steward), approved)
    assert str(others) in page_of(sign_in(operator), approved)
