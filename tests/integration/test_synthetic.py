"""Synthetic images from the draft to a corpus: real store, real sandbox, the shards that the kit packs."""

import hashlib
import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone

from contributions import attestations, embargo, kinds, services
from contributions.corpora import services as corpora
from contributions.models import Contribution
from contributions.reports import image_count, report_of
from governance.board.models import Motion
from jobs import gather, pretrain, sandbox
from jobs.engine import Attempt
from jobs.kit import cli, generator, keys, scan, shards, statements, synthetic
from jobs.models import Run
from portal import storage
from portal.accounts import services as accounts
from portal.audit.models import AuditEvent
from portal.institutions import signing_keys
from portal.notifications.models import Notification
from portal.programmes import services as programmes
from portal.programmes.models import CHECKS, Programme
from tests import attesting, contributing, factories, synthesising
from tests.hostile import honest
from tests.integration.test_validation import check

pytestmark = pytest.mark.services
KEY = attesting.key_of("the clinic")
PICTURES = [synthesising.picture(seed) for seed in range(12)]


@pytest.fixture(autouse=True)
def takes_images(programme):
    programmes.change(programme, kinds=["weights", "synthetic"], by=None)
    programme.refresh_from_db()
    return programme


@pytest.fixture
def two_shards(tmp_path):
    """Twelve images of a generator that nobody holds, in two shards."""
    rows = [synthesising.row(number + 6) for number in range(6)]
    facts = {"drawn": 12}
    return [
        synthesising.shard(tmp_path, PICTURES[:6], **facts),
        synthesising.shard(tmp_path, PICTURES[6:], rows=rows, number=1, **facts),
    ]


def drafted(institution, **given) -> Contribution:
    steward = factories.person_of(institution, "steward")
    programme = Programme.objects.earliest("pk")
    base = programme.base_models.first() or factories.base_model(programme)
    return contributing.draft(institution, base, by=steward, kind="synthetic", title="Synthetic images", **given)


def submitted(institution, paths, **given) -> Contribution:
    draft = drafted(institution, **given)
    for path in paths:
        factories.upload(draft, path.read_bytes(), name=path.name)
    return services.submit(draft, by=factories.person_of(institution, "steward"), now=timezone.now())


def test_shards_reach_the_board_and_a_corpus(institution, two_shards, settings, tmp_path, monkeypatch):
    contribution = check(submitted(institution, two_shards))
    report = report_of(contribution)
    assert (contribution.status, report.verdict) == ("review", "warn")  # nobody holds the generator
    names = {row.number: row.name for row in report.rows}
    assert names == {0: "Transfer", 1: "Container", 3: "Agreement", 4: "Provenance", 5: "Duplicates", 7: "Quality"}
    assert [picture.name for picture in report.pictures] == ["samples.png"]
    assert "Like photographs" in next(row for row in report.rows if row.number == 7).figure
    assert Motion.objects.get(contribution=contribution).title.startswith("Approve synthetic images of")
    assert contribution.manifest_sha256 == shards.digest_of(synthetic.hashed(two_shards))
    services.approve(contribution.pk, by=None, now=timezone.now())
    assert image_count(contribution) == 12

    corpus = corpora.draft_corpus(contribution.programme, slug="c", title="C", by=None, now=timezone.now())
    part = corpora.add_generator(corpus, contribution, image_count=64, seed=1, now=timezone.now())
    assert part.image_count == 12
    corpora.freeze(corpus, by=None, now=timezone.now())
    run = pretrain.queue(corpus, slug="s", name="S", description="", steps=1, by=None)
    settings.DATA_DIR = tmp_path / "new"  # of a worker that has never checked anything
    monkeypatch.setattr(pretrain, "LIMITS", replace(pretrain.LIMITS, file_bytes=4096))  # smaller than the images
    images = pretrain._images_of(Attempt(Run.objects.get(pk=run.pk)), part)
    assert images.shape == (12, 128, 128, 3)
    small = np.stack([pretrain._enlarged(picture) for picture in PICTURES])
    assert np.array_equal(images, small)


@pytest.mark.slow
def test_a_generator_is_sampled_in_pieces_which_are_the_same_images(institution, monkeypatch):
    weights = factories.reviewed_contribution(institution, honest())
    services.approve(weights.pk, by=None, now=timezone.now())
    corpus = corpora.draft_corpus(weights.programme, slug="c", title="C", by=None, now=timezone.now())
    part = corpora.add_generator(corpus, weights, image_count=8, seed=3, now=timezone.now())
    corpora.freeze(corpus, by=None, now=timezone.now())
    run = pretrain.queue(corpus, slug="s", name="S", description="", steps=1, by=None)
    real, asked = sandbox.run, []

    def counted(argv, **given):
        asked.append((argv[argv.index("--seed") + 1], argv[argv.index("--n") + 1]))
        return real(argv, **given)

    monkeypatch.setattr(sandbox, "run", counted)
    whole = pretrain._images_of(Attempt(run), part)
    monkeypatch.setattr(pretrain, "MOST_AT_ONCE", 6, raising=False)  # one of each class
    pieces = pretrain._images_of(Attempt(run), part)
    assert asked == [("3", "8"), ("3", "6"), ("9", "2")]
    assert np.abs(whole.astype(int) - pieces).max() <= 1  # of 255: how a sum is rounded depends on the batch


@pytest.mark.django_db(transaction=True)  # the heartbeat has a connection of its own, and must see the run
def test_images_are_drawn_again_where_the_institution_gave_the_generator(institution, tmp_path):
    content = honest()
    given = check(factories.submitted_contribution(institution, content))
    assert given.status == "review"
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(content)
    base = generator.load_base(factories.BASE_FOLDER)
    model = generator.load(base, weights)
    synthetic.draw(model, base, weights, tmp_path / "drawn", count=8, seed=5, date="2026-11-27")
    paths = synthetic.pack(tmp_path / "drawn", base)
    contribution = check(submitted(institution, paths))
    found = contribution.check_results.get(number=4)
    assert (contribution.status, found.verdict, found.evidence["redrawn"]) == ("review", "pass", 8)


@pytest.mark.django_db(transaction=True)  # as above
@pytest.mark.parametrize(("own", "until"), [(None, 40), (20, 40), (60, 60)])
def test_images_come_under_the_embargo_of_the_generator_that_drew_them(institution, two_shards, own, until):
    today = embargo.today(timezone.now())
    factories.submitted_contribution(institution, b"a generator", embargo_until=today + timedelta(days=40))
    given = {"embargo_until": today + timedelta(days=own)} if own else {}
    images = check(submitted(institution, two_shards, **given))
    assert (images.status, images.embargo_until) == ("review", today + timedelta(days=until))
    events = AuditEvent.objects.filter(verb="contribution.embargo_inherited", subject_id=images.pk)
    assert [event.facts["until"] for event in events] == ([] if own == until else [f"{images.embargo_until}"])
    told = Notification.objects.filter(text__contains="Like the generator that drew them").exists()
    assert told is (own != until)
    with pytest.raises(embargo.UnderEmbargo):
        embargo.require_over(images, now=timezone.now())


@pytest.mark.django_db(transaction=True)  # as above
def test_no_embargo_comes_of_a_generator_of_others_or_of_one_that_is_out(institution, outsider, two_shards):
    later = embargo.today(timezone.now()) + timedelta(days=40)
    other = outsider.memberships.get().institution
    factories.submitted_contribution(other, b"a generator", embargo_until=later)
    withdrawn = factories.submitted_contribution(institution, b"a generator", embargo_until=later)
    steward = factories.person_of(institution, "steward")
    services.withdraw(withdrawn, reason="It learnt too much.", by=steward, now=timezone.now())
    images = check(submitted(institution, two_shards))
    assert (images.status, images.embargo_until) == ("review", None)


def test_a_generator_of_another_institution_is_called_so(institution, outsider, two_shards, steward):
    other, programme = outsider.memberships.get().institution, Programme.objects.earliest("pk")
    base = programme.base_models.first() or factories.base_model(programme)
    contributing.at_status("review", other, base, by=factories.person_of(other, "steward"), content=b"a generator")
    found = check(submitted(institution, two_shards)).check_results.get(number=4)
    assert (found.verdict, found.evidence["code"]) == ("warn", "anothers_generator")


def test_the_generator_that_the_report_names_is_at_hand_whatever_else_was_sent(
    institution, tmp_path, monkeypatch, steward
):
    monkeypatch.setattr(gather, "MOST_GENERATORS", 0)
    base = Programme.objects.earliest("pk").base_models.first() or factories.base_model(
        Programme.objects.earliest("pk")
    )
    weights = contributing.at_status("review", institution, base, by=steward, content=b"a generator" * 9).files.get()
    images = drafted(institution)
    assert list(gather.generators(images, _folder(tmp_path / "unnamed")).iterdir()) == []
    said = statements.sign(
        statements.PRIVACY, shards.SUMS, "0" * 64, attesting.report(weights_sha256=weights.sha256), KEY
    )
    attestations.attest(images, kind="privacy", envelope=said, by=steward, now=timezone.now())
    (found,) = gather.generators(images, _folder(tmp_path / "named")).iterdir()
    assert (found.stem, found.read_bytes()) == (weights.sha256, b"a generator" * 9)


@pytest.mark.parametrize("named", ["\0", "\ud800", 7, ["0" * 64]])
def test_a_report_that_names_no_generator_stops_no_check(institution, tmp_path, steward, named):
    images = drafted(institution)
    said = statements.sign(statements.PRIVACY, shards.SUMS, "0" * 64, {"weights_sha256": named}, KEY)
    attestations.attest(images, kind="privacy", envelope=said, by=steward, now=timezone.now())
    assert list(gather.generators(images, tmp_path).iterdir()) == []


def _folder(path):
    path.mkdir()
    return path


def _hide_a_file(path):
    path.write_bytes(path.read_bytes() + bytes(10_000) + b"patient list")


def _a_pickle(path):
    path.write_bytes(b"\x80\x02cos\nsystem\n(S'touch /tmp/canary'\ntR." + bytes(600))


def _other_tag(path):
    rows = [synthesising.row(number) for number in range(6)]
    rows[2]["generator_sha256"] = "0" * 64
    synthesising.shard(path.parent, PICTURES[:6], rows=rows, drawn=12)


def _noise(path):
    rng = np.random.default_rng(0)
    synthesising.shard(path.parent, list(rng.integers(0, 255, (6, 64, 64, 3), dtype=np.uint8)), drawn=12)


@pytest.mark.parametrize(
    ("spoil", "number", "code"),
    [(_hide_a_file, 1, "hidden_bytes"), (_a_pickle, 1, "not_a_shard"), (_other_tag, 4, "tags_differ"),
     (_noise, 7, "not_fundus_like")],
)  # fmt: skip
def test_bad_shards_are_rejected_with_the_reason_and_not_before_the_board(institution, two_shards, spoil, number, code):
    spoil(two_shards[0])
    paths = two_shards if number != 7 else two_shards[:1]
    contribution = check(submitted(institution, paths))
    last = contribution.check_results.get(verdict="fail")
    assert (contribution.status, last.number, last.evidence["code"]) == ("rejected", number, code)
    assert contribution.reason == last.sentence
    assert Motion.objects.filter(contribution=contribution).count() == 0
    assert {file.state for file in contribution.files.all()} == {"refused"}


def test_a_shard_of_an_earlier_contribution_is_refused(institution, two_shards):
    assert check(submitted(institution, two_shards)).status == "review"
    again = check(submitted(institution, two_shards[:1]))
    last = again.check_results.get(verdict="fail")
    assert (again.status, last.number) == ("rejected", 0)
    assert "byte for byte, a file of an earlier contribution" in again.reason


def test_of_two_that_hold_the_same_shard_one_stands_whichever_is_checked_first(institution, two_shards):
    """The one that was sent first is not yet checked when the second passes."""
    first, second = submitted(institution, two_shards), submitted(institution, two_shards[1:])
    assert check(second).status == "review"
    refused = check(first)
    last = refused.check_results.get(verdict="fail")
    assert (refused.status, last.number, last.evidence) == ("rejected", 0, {"code": "file_known"})
    assert refused.reason == (
        "synthetic-00001.tar is, byte for byte, a file of another contribution that was checked meanwhile."
    )
    assert Motion.objects.filter(contribution=refused).count() == 0


@pytest.mark.django_db(transaction=True)  # as above
def test_the_statements_hold_for_all_shards_together(institution, signing_official, two_shards, programme):
    asked = [0, 1, 2, 4, 5, 6, 7, 9]
    programmes.change(programme, checks=asked, by=None)
    digest = shards.digest_of(synthetic.hashed(two_shards))
    report = attesting.report(weights_sha256=synthesising.GENERATOR)
    registration = attesting.registration("the clinic", institution.slug)
    signing_keys.register(institution, registration=registration, label="t", by=signing_official, now=timezone.now())
    steward = factories.person_of(institution, "steward")

    def sent(signature) -> Contribution:
        draft = drafted(institution)
        for path in two_shards:
            factories.upload(draft, path.read_bytes(), name=path.name)
        privacy = statements.sign(statements.PRIVACY, shards.SUMS, digest, report, KEY)
        for kind, envelope in (("signature", signature), ("privacy", privacy)):
            attestations.attest(draft, kind=kind, envelope=envelope, by=steward, now=timezone.now())
        return check(services.submit(draft, by=steward, now=timezone.now()))

    one = hashlib.sha256(two_shards[0].read_bytes()).hexdigest()
    refused = sent(statements.sign(statements.SYNTHETIC, "SHA256SUMS", one, {}, KEY))
    assert (refused.status, refused.check_results.get(verdict="fail").evidence["code"]) == (
        "rejected",
        "other_file",
    )
    good = sent(statements.sign(statements.SYNTHETIC, "SHA256SUMS", digest, {}, KEY))
    assert (good.status, sorted(good.check_results.values_list("number", flat=True))) == ("review", sorted([3, *asked]))


# The draft


def test_images_take_many_files_and_weights_one(institution, steward, two_shards, monkeypatch):
    draft = drafted(institution)
    for path in two_shards:
        factories.upload(draft, path.read_bytes(), name=path.name)
    assert draft.files.count() == 2
    with pytest.raises(services.uploads.FileRefused, match=r"Another synthetic-00000.tar is there already"):
        contributing.announce(draft, b"other", by=steward, name="synthetic-00000.tar")
    weights = factories.draft_contribution(institution)
    factories.upload(weights, b"one")
    with pytest.raises(services.uploads.FileRefused, match="at most 1 files"):
        contributing.announce(weights, b"two", by=steward, name="two.safetensors")


def test_a_programme_that_takes_weights_alone_refuses_images(institution, programme):
    programmes.change(programme, kinds=["weights"], by=None)
    with pytest.raises(programmes.KindNotOffered):
        drafted(institution)


def test_an_empty_draft_says_what_is_missing(institution):
    sentences = [str(obstacle) for obstacle in services.obstacles(drafted(institution))]
    assert sentences == ["The images have not arrived whole. Upload them first."]


# Pages


def test_the_wizard_offers_the_kinds_that_the_programme_takes(institution, steward, sign_in, programme):
    base, browser = factories.base_model(programme), sign_in(steward)
    text = browser.get("/contributions/new/").content.decode()
    assert text.count('type="radio" name="kind"') == 2
    form = {"institution": institution.pk, "title": "Drawn at night", "base_model": base.pk}
    browser.post("/contributions/new/", {**form, "kind": "synthetic"})
    draft = Contribution.objects.get()
    assert (draft.kind, draft.base_model) == ("synthetic", base)
    page = browser.get(f"/contributions/{draft.pk}/files/").content.decode()
    assert ("Images and evidence" in page, 'data-suffix=".tar"' in page, " multiple>" in page) == (True, True, True)
    assert browser.post("/contributions/new/", {**form, "kind": "images"}).status_code == 200
    programmes.change(programme, kinds=["weights"], by=None)
    assert 'type="radio" name="kind"' not in browser.get("/contributions/new/").content.decode()


def test_the_upload_page_lists_every_file(institution, steward, sign_in, two_shards):
    draft, browser = drafted(institution), sign_in(steward)
    for path in two_shards:
        factories.upload(draft, path.read_bytes(), name=path.name)
    contributing.announce(draft, b"x" * 100, by=steward, name="synthetic-00002.tar")
    page = browser.get(f"/contributions/{draft.pk}/files/").content.decode()
    assert "2 files have arrived" in page
    assert page.count("/remove/") == 3
    assert ("synthetic-00002.tar is not here whole yet" in page, "Continue" in page) == (True, False)


# The kit


@pytest.mark.django_db(transaction=True)
def test_the_kit_contributes_a_folder(institution, live_server, settings, steward, tmp_path, monkeypatch, capsys):
    settings.PORTAL_URL = live_server.url
    factories.base_model(Programme.objects.earliest("pk"))
    monkeypatch.setenv("CONSORTIUM_URL", live_server.url)
    monkeypatch.setenv("CONSORTIUM_TOKEN", accounts.create_token(steward, name="kit", now=timezone.now()))
    monkeypatch.setenv("CONSORTIUM_KEY", str(tmp_path / "key.pem"))
    key = keys.create(tmp_path / "key.pem")
    weights, folder = tmp_path / "weights.safetensors", tmp_path / "drawn"
    weights.write_bytes(honest())
    base = generator.load_base(factories.BASE_FOLDER)
    synthetic.draw(generator.load(base, weights), base, weights, folder, count=6, seed=5, date="2026-11-27")
    card = tmp_path / "card.json"
    card.write_text(json.dumps({**contributing.CARD, "base": {"slug": "fundus-64"}}))
    given = ["--institution", institution.slug, "--title", "Drawn", "--card", str(card), "--no-wait", "--json"]
    assert cli.main(["contribute", "synthetic", str(folder), *given]) == 0
    row = Contribution.objects.get()
    signed = statements.open_statement(
        row.attestations.get(kind="signature").envelope, statements.SYNTHETIC, attesting.known(key)
    )
    file = row.files.get()
    assert (row.kind, row.status, row.manifest_sha256) == ("synthetic", "submitted", signed.sha256)
    assert scan.sha256_of(folder / "shards" / file.name) == file.sha256
    assert hashlib.sha256(storage.get(storage.QUARANTINE, file.storage_key)).hexdigest() == file.sha256


def test_every_check_has_a_name_for_either_kind():
    assert all(set(kind.checks) == {3, *CHECKS} for kind in kinds.OPEN.values())


def test_what_was_signed_is_what_is_submitted_whatever_the_files_are_called(institution):
    files = {"a.tar": b"first", "Z.tar": b"second", "a_1.tar": b"third", "a-2.tar": b"fourth"}
    draft = drafted(institution)
    for name, content in files.items():
        factories.upload(draft, content, name=name)
    sent = services.submit(draft, by=factories.person_of(institution, "steward"), now=timezone.now())
    listed = [(name, hashlib.sha256(content).hexdigest()) for name, content in files.items()]
    assert sent.manifest_sha256 == shards.digest_of(listed)
