"""What an institution signs about the use of its contributions holds for corpora, training and releases."""

import re

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from contributions import services as contributions
from contributions import uses
from contributions.corpora import services as corpora
from contributions.corpora.models import Corpus, CorpusPart
from contributions.models import Contribution
from governance.board import services as boards
from governance.board.models import Motion
from governance.releases import services as releases
from governance.releases.models import License, Release
from jobs import engine, pretrain
from jobs.models import Run
from portal.agreements import duo
from portal.agreements import services as agreements
from portal.agreements.duo import Purpose
from tests import candidates, contributing, factories
from tests import chest as chests

TEXT = "# Data-use agreement\n\n{{ use_codes }}\n\n{{ purposes }}\n\n{{ transfer_limits }}\n"
LIMITS = {"purposes": "Glaucoma & <b>AMD</b> only", "transfer_limits": "Nothing leaves Kenya; ask us"}


def signed(institution, agreement, *codes, **more):
    """Have the institution sign a text with terms of use."""
    newest = agreements.newest_of(agreement)
    if newest is None or newest.text != TEXT:
        agreements.publish(agreement, text=TEXT, change_note="Terms of use.", by=None, now=timezone.now())
    variables = {"use_codes": duo.described(codes), **LIMITS}
    return factories.signed_case(factories.sent_case(institution, agreement, variables=variables, **more))


@pytest.fixture
def agreement(programme):
    return programme.agreements.get()


@pytest.fixture
def approved(at_status):
    """Return a contribution that the board approved, sent now."""
    return lambda content=b"w" * 100: at_status("approved", content)


@pytest.fixture
def mixture(programme) -> Corpus:
    return corpora.draft_corpus(programme, slug="mixture", title="The mixture", by=None, now=timezone.now())


def add(mixture, contribution) -> CorpusPart:
    return corpora.add_generator(mixture, contribution, image_count=2, seed=1, now=timezone.now())


# Corpora


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        (["DS"], "DS (disease specific research) does not cover training and publishing a model of many diseases."),
        (["POA"], "POA (population origins or ancestry research only) does not cover training"),
        (["HMB", "NMDS"], "NMDS (no general methods research) rules out training"),
    ],
)
def test_what_terms_exclude_enters_no_corpus(institution, agreement, approved, mixture, codes, why):
    signed(institution, agreement, *codes)
    contribution = approved()
    with pytest.raises(uses.TermsExclude, match=re.escape(f"{contribution}: {why}")):
        add(mixture, contribution)
    assert mixture.parts.count() == 0


@pytest.mark.parametrize("codes", [[], ["NRES"], ["HMB", "NCU", "IRB"], ["GRU", "GS"]])
def test_what_terms_permit_or_leave_to_a_person_does(institution, agreement, approved, mixture, codes):
    if codes:
        signed(institution, agreement, *codes)
    assert add(mixture, approved()).image_count == 2


def test_what_is_signed_in_words_of_its_own_is_for_a_person_to_read(institution, agreement, approved, mixture):
    agreements.publish(agreement, text=TEXT, change_note="Terms of use.", by=None, now=timezone.now())
    variables = {"use_codes": "Glaucoma research", **LIMITS}
    factories.signed_case(factories.sent_case(institution, agreement, variables=variables))
    contribution = approved()
    assert uses.answers([contribution], Purpose.TRAINING) == [
        (
            contribution, duo.Answer.ASK,
            "A person has to decide: what was signed says it in words of its own, “Glaucoma research”.",
        )
    ]  # fmt: skip
    assert add(mixture, contribution).image_count == 2


def test_the_terms_at_sending_bind_and_so_do_those_in_force_now(institution, agreement, approved, mixture):
    signed(institution, agreement, "DS")
    sent_narrow = approved(b"1")
    signed(institution, agreement, "HMB")
    sent_wide = approved(b"2")
    signed(institution, agreement, "HMB", "NMDS")
    for contribution in (sent_narrow, sent_wide):
        with pytest.raises(uses.TermsExclude):
            add(mixture, contribution)
    case = signed(institution, agreement, "HMB", "NCU")
    with pytest.raises(uses.TermsExclude, match="DS"):
        add(mixture, sent_narrow)
    add(mixture, sent_wide)
    agreements.terminate(case, by=factories.person_of(institution), reason="x", now=timezone.now())
    with pytest.raises(uses.TermsExclude, match="DS"):  # what was given before stays under what was signed then
        add(mixture, sent_narrow)


def test_agreements_on_other_kinds_or_programmes_say_nothing(institution, programme, approved, mixture):
    for row in (factories.agreement(programme, slug="annex", covers=["images"]), *other_programme().agreements.all()):
        signed(institution, row, "DS")
    given = approved()
    add(mixture, given)
    assert [part.contribution for part in mixture.parts.all()] == [given]


def other_programme():
    return factories.programme("skin")


def test_a_case_that_covers_a_hospital_binds_it(institution, agreement, approved, mixture):
    trust = factories.admitted_institution("Volta Teaching Hospital")
    factories.person_of(trust, factories.Role.SIGNING_OFFICIAL)
    factories.signatory()
    agreements.publish(agreement, text=TEXT, change_note="Terms of use.", by=None, now=timezone.now())
    variables = {"use_codes": duo.described(["DS"]), **LIMITS}
    case = factories.draft_case(trust, agreement, variables=variables, covered=[institution])
    agreements.confirm_cover(case.covered.get(), by=factories.person_of(institution), now=timezone.now())
    factories.signed_case(agreements.send(case, by=factories.person_of(trust), now=timezone.now()))
    with pytest.raises(uses.TermsExclude, match="DS"):
        add(mixture, approved())


def test_no_training_on_what_terms_came_to_exclude_after_the_freeze(institution, agreement, approved, mixture):
    contribution = approved()
    add(mixture, contribution)
    corpus = corpora.freeze(mixture, by=None, now=timezone.now())
    asked = {"name": "E", "description": "", "steps": 1, "by": None}
    run = pretrain.queue(corpus, slug="first", **asked)
    signed(institution, agreement, "DS")
    with pytest.raises(uses.TermsExclude, match=str(contribution)):
        pretrain.queue(corpus, slug="second", **asked)
    with pytest.raises(engine.InputRefused, match="Compose the corpus without it"):
        pretrain.pretrain(engine.Attempt(run))


def test_many_contributions_cost_the_same_queries(institution, agreement, approved, django_assert_num_queries):
    signed(institution, agreement, "HMB")
    rows = [approved(str(number).encode()) for number in range(3)]
    for some in (rows[:1], rows):
        with django_assert_num_queries(3):
            assert [answer for _, answer, _ in uses.answers(some, Purpose.TRAINING)] == ["permitted"] * len(some)


# Programmes


@pytest.fixture
def radiographs(chest, institution) -> Contribution:
    """A contribution to another programme, approved."""
    motion = chests.before_the_board(chest, institution)
    return contributions.approve(motion.contribution_id, by=None, now=timezone.now())


def test_a_contribution_enters_no_corpus_of_another_programme(radiographs, mixture, chest):
    with pytest.raises(corpora.OtherProgramme, match="belongs to the programme Chest X-ray, The mixture to Retina"):
        add(mixture, radiographs)
    own = corpora.draft_corpus(chest, slug="own", title="Own", by=None, now=timezone.now())
    assert add(own, radiographs).corpus == own


def test_the_database_refuses_a_part_of_another_programme(radiographs, mixture):
    facts = {"image_count": 1, "source_sha256": "0" * 64, "kind": "synthetic"}
    with pytest.raises(IntegrityError, match="corpus_part_of_one_programme"), transaction.atomic():
        CorpusPart.objects.create(corpus=mixture, contribution=radiographs, **facts)
    CorpusPart.objects.create(corpus=mixture, kind="real", dataset=candidates.dataset(mixture.programme), image_count=1)


def test_no_training_on_a_corpus_frozen_with_another_programmes_images(radiographs, chest, programme):
    """As could be before it was refused: the trigger looks at the parts, not at a corpus that changes hands."""
    corpus = corpora.draft_corpus(chest, slug="early", title="Early", by=None, now=timezone.now())
    add(corpus, radiographs)
    corpus = corpora.freeze(corpus, by=None, now=timezone.now())
    asked = {"name": "E", "description": "", "steps": 1, "by": None}
    run = pretrain.queue(corpus, slug="first", **asked)
    Corpus.objects.filter(pk=corpus.pk).update(programme=programme)
    corpus.refresh_from_db()
    with pytest.raises(corpora.OtherProgramme, match=f"^{radiographs}, of which Early holds images, belongs"):
        pretrain.queue(corpus, slug="second", **asked)
    with pytest.raises(engine.InputRefused, match="Compose a corpus without it"):
        pretrain.pretrain(engine.Attempt(run))


# The operator's form


def form_of(data, *generators) -> dict:
    return {
        "name": "A new encoder", "dataset": data.pk, "generators": [row.pk for row in generators],
        "images_per_generator": 8, "steps": 10, "seed": 3, "processes": 1,
    }  # fmt: skip


def test_the_form_offers_what_may_be_used_and_says_why_the_rest_is_not(
    institution, agreement, approved, programme, operator, sign_in
):
    data = candidates.dataset(programme)
    signed(institution, agreement, "DS")
    excluded = approved(b"1")
    signed(institution, agreement, "HMB", "GS")
    undecided = approved(b"2")
    client = sign_in(operator)
    page = client.get("/runs/pretrain/")
    assert list(page.context["form"].fields["generators"].queryset) == [undecided]
    words = contributing.text(page)
    assert f"{undecided}. A person has to decide on training and publishing a model of many diseases: GS" in words
    assert f"Not offered Approved, but the terms of use that were signed exclude this training. {excluded}: DS" in words
    page = client.post("/runs/pretrain/", form_of(data, excluded))
    assert (page.status_code, list(page.context["form"].errors)) == (422, ["generators"])
    assert (Run.objects.count(), Corpus.objects.count()) == (0, 0)
    client.post("/runs/pretrain/", form_of(data, undecided))
    assert Corpus.objects.get().parts.filter(contribution=undecided).count() == 1


def test_without_anything_excluded_the_form_says_nothing_of_it(approved, programme, operator, sign_in):
    candidates.dataset(programme)
    contribution = approved()
    page = sign_in(operator).get("/runs/pretrain/")
    assert list(page.context["form"].fields["generators"].queryset) == [contribution]
    assert "Not offered" not in page.text
    assert "?programme=" not in page.text


def test_the_form_is_of_one_programme(approved, radiographs, programme, chest, operator, sign_in):
    own, data = approved(), candidates.dataset(programme)
    client = sign_in(operator)
    assert list(client.get("/runs/pretrain/").context["form"].fields["generators"].queryset) == [own]
    assert client.get("/runs/pretrain/?programme=chest-xray").status_code == 404  # it has no data set yet
    page = client.post("/runs/pretrain/", form_of(data, radiographs))
    assert (page.status_code, list(page.context["form"].errors)) == (422, ["generators"])


def test_where_several_programmes_have_data_sets_the_page_leads_to_each(
    radiographs, programme, chest, operator, sign_in, tmp_path
):
    data = candidates.dataset(programme)
    (tmp_path / "set.tar").write_bytes(b"radiographs")
    facts = {
        "image_count": 2,
        "train_count": 1,
        "patient_count": 2,
        "manifest_sha256": "0" * 64,
        "title": "Radiographs",
    }
    other = corpora.register_dataset(
        chest, tmp_path / "set.tar", slug="chest-images", by=None, now=timezone.now(), credits="Nobody.", **facts
    )
    client = sign_in(operator)
    page = client.get("/runs/pretrain/?programme=chest-xray")
    assert 'href="?programme=retina">Retina</a>' in page.text
    assert 'href="?programme=chest-xray" aria-current="page">Chest X-ray</a>' in page.text
    fields = page.context["form"].fields
    assert (list(fields["dataset"].queryset), list(fields["generators"].queryset)) == ([other], [radiographs])
    page = client.post("/runs/pretrain/?programme=chest-xray", form_of(data, radiographs))
    assert (page.status_code, list(page.context["form"].errors)) == (422, ["dataset"])
    client.post("/runs/pretrain/?programme=chest-xray", form_of(other, radiographs))
    assert Corpus.objects.get().programme == chest


# Releases


def licence(spdx_id: str) -> License:
    return releases.register_license(
        spdx_id=spdx_id, title=spdx_id, url="https://example.org/", text=spdx_id, by=None, now=timezone.now()
    )


@pytest.mark.parametrize(
    ("spdx_id", "allows"),
    [
        ("CC-BY-NC-4.0", False),
        ("CC-BY-NC-SA-4.0", False),
        ("PolyForm-Noncommercial-1.0.0", False),
        ("CC-BY-4.0", True),
        ("Apache-2.0", True),
        ("NCSA", True),  # a permissive licence of a university
    ],
)
def test_which_licences_allow_commercial_use(spdx_id, allows):
    assert License(spdx_id=spdx_id).allows_commercial_use is allows


@pytest.fixture
def learnt(institution, agreement, approved, programme):
    """Return a candidate that learnt from a contribution under terms of use, and the contribution."""

    def _learnt(*codes):
        signed(institution, agreement, *codes)
        contribution = approved()
        return candidates.candidate(programme, mixture=candidates.corpus(programme, contribution)), contribution

    return _learnt


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        (["HMB", "NCU"], "NCU (non-commercial use only) rules out commercial use."),
        (["GRU", "NPUNCU"], "NPUNCU (not for profit, non commercial use only) rules out commercial use."),
    ],
)
def test_no_licence_for_commercial_use_where_terms_exclude_it(learnt, operator, sign_in, codes, why):
    candidate, contribution = learnt(*codes)
    sold, free = licence("Apache-2.0"), candidates.license()
    url = f"/board/propose/{candidate.slug}/"
    given = {"name": "GRF", "version": "1.0", "card": "# Typed by hand", "license": sold.pk}
    client = sign_in(operator)
    page = client.post(url, given)
    assert (page.status_code, list(page.context["form"].errors)) == (422, ["license"])
    words = contributing.text(page)
    assert f"The terms of use that were signed exclude this. {contribution}: {why} Choose a licence that keeps" in words
    assert "# Typed by hand" in words
    assert (Release.objects.count(), Motion.objects.filter(kind="release_model").count()) == (0, 0)
    client.post(url, {**given, "license": free.pk})
    assert Release.objects.get().license == free


def test_a_licence_for_commercial_use_is_proposed_where_terms_permit_it(learnt, operator):
    candidate, _ = learnt("GRU", "IRB")
    release = boards.propose_release(
        candidate, name="GRF", version="1.0", license=licence("Apache-2.0"), card="#", by=operator, now=timezone.now()
    )
    assert release.status == "proposed"


# The board's evidence


@pytest.fixture
def read(board, sign_in):
    """Return the page of a motion as a member sees it who has declared no interest."""

    def _read(motion):
        factories.declare(motion, board[0])
        return sign_in(board[0]).get(motion.get_absolute_url())

    return _read


def test_the_board_reads_what_was_signed(institution, agreement, board, read, sign_in):
    case = signed(institution, agreement, "HMB", "NCU")
    factories.reviewed_contribution(institution)
    page = read(Motion.objects.get())
    assert f'<a href="{case.get_absolute_url()}">Data-use agreement, version 2</a>' in page.text
    assert "Glaucoma &amp; &lt;b&gt;AMD&lt;/b&gt; only" in page.text
    words = contributing.text(page)
    for shown in (
        "HMB (health or medical or biomedical research, DUO:0000006); NCU (non-commercial use only, DUO:0000046)",
        "Nothing leaves Kenya; ask us",
        "HMB (health or medical or biomedical research) covers training and publishing a model of many diseases.",
        "NCU (non-commercial use only) rules out commercial use.",
    ):
        assert shown in words
    assert sign_in(board[0]).get(case.get_absolute_url()).status_code == 200


def test_the_board_reads_that_a_person_decides(institution, agreement, read):
    signed(institution, agreement, "HMB", "GS")
    factories.reviewed_contribution(institution)
    words = contributing.text(read(Motion.objects.get()))
    assert "A person has to decide on training and publishing a model of many diseases: GS" in words


def test_where_a_text_asks_for_no_terms_the_board_reads_that(institution, read):
    factories.reviewed_contribution(institution)
    words = contributing.text(read(Motion.objects.get()))
    assert "What was signed Data-use agreement, version 1 Its text asks for no terms of use." in words


def test_the_board_reads_of_a_release_what_a_person_has_to_decide(learnt, operator, read):
    candidate, contribution = learnt("HMB", "MOR")
    release = candidates.proposed(candidate)
    words = contributing.text(read(release.motions.get()))
    assert f"{contribution}: A person has to decide on releasing a model for non-commercial research: MOR" in words


def test_of_a_release_that_terms_permit_the_board_reads_no_remark(learnt, operator, read):
    candidate, _ = learnt("HMB", "NCU")
    release = candidates.proposed(candidate)
    page = read(release.motions.get())
    assert (page.status_code, "Terms of use to read before voting" in page.text) == (200, False)
