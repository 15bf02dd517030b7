"""What the demonstration is made of: base model, data set, tasks, licence, baseline; then the work on them."""

import csv
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from contributions.corpora import services as corpora
from contributions.corpora.models import Corpus, DataSet
from contributions.models import Contribution
from governance.benchmarks import services as benchmarks
from governance.board import services as boards
from governance.board.models import Motion
from governance.releases import cards
from governance.releases import services as releases
from governance.releases.models import Candidate, License, LicenseAcceptance, Release
from jobs import evaluate, pretrain
from jobs.kit import dataset as kit_dataset
from jobs.kit import encoder, phantom
from jobs.models import Run
from portal.blueprint import applying
from portal.seed import sites
from portal.seed.board import vote
from portal.seed.consortium import RETINA, People
from portal.seed.say import Say

LICENCE = Path(releases.__file__).parent / "licences" / "CC-BY-NC-4.0.txt"
# Phantoms are dealt out to countries so that the figures by region have something to show; no patient is anywhere.
PHANTOM_COUNTRIES = [("IN", "SEARO"), ("IL", "EMRO"), ("CN", "WPRO"), ("KE", "AFRO"), ("PE", "AMRO")]
STEPS = 240
LONG_STEPS = 6000
SYNTHETIC = 64


def register(people: People, say: Say) -> None:
    """Register licence, data set, tasks and the baseline encoder, and queue the baseline's evaluation."""
    if not License.objects.filter(spdx_id="CC-BY-NC-4.0").exists():
        _license(people)
    if not DataSet.objects.filter(slug="sample").exists():
        _dataset(people, say)
    applying.apply(RETINA, by=people.operator, now=timezone.now())  # again: the tasks waited for the data set
    candidate = Candidate.objects.filter(kind=Candidate.Kind.BASELINE).first() or _baseline(people)
    if not candidate.evaluations.exists():
        evaluate.queue(candidate, by=people.operator)
    say.step(f"Base model, licence, {people.programme.tasks.count()} tasks; the baseline's evaluation is queued")


def _license(people: People) -> None:
    releases.register_license(
        spdx_id="CC-BY-NC-4.0",
        title="Creative Commons Attribution-NonCommercial 4.0 International",
        url="https://creativecommons.org/licenses/by-nc/4.0/",
        text=LICENCE.read_text(encoding="utf-8"),
        by=people.operator,
        now=timezone.now(),
    )


def _baseline(people: People) -> Candidate:
    baseline = encoder.efficientnet_lite0()
    return releases.register_candidate(
        programme=people.programme,
        slug="efficientnet-lite0-imagenet",
        name="EfficientNet-Lite0 (ImageNet)",
        kind=Candidate.Kind.BASELINE,
        description="Features of a network that never saw a retina: what a foundation model has to beat.",
        config={"transform": baseline.transform},
        sha256=baseline.sha256,
        by=people.operator,
        now=timezone.now(),
    )


def _dataset(people: People, say: Say) -> DataSet:
    """Register the sample (or, where there is none, phantoms) as one frozen tar."""
    folder = sample_folder(say)
    tar = settings.DATA_DIR / "scratch" / "sample.tar"
    tar.parent.mkdir(parents=True, exist_ok=True)
    kit_dataset.write_tar(folder, tar)
    records = kit_dataset.read_image_set(tar).records
    is_phantom = any(record.column("source") == "phantom" for record in records)
    dataset = corpora.register_dataset(
        people.programme,
        tar,
        slug="sample",
        by=people.operator,
        now=timezone.now(),
        title="Procedural fundus phantoms" if is_phantom else "Open fundus sample",
        description="Drawn by a program; no patient." if is_phantom else "Openly licensed photographs.",
        credits=_credits(folder),
        is_phantom=is_phantom,
        image_count=len(records),
        train_count=sum(record.column("split") == "train" for record in records),
        patient_count=len({record.patient_group for record in records}),
        manifest_sha256=kit_dataset.manifest_sha256(records),
    )
    tar.unlink()
    say.step(f"{dataset}: {dataset.image_count} images of {dataset.patient_count} patients")
    return dataset


def sample_folder(say: Say) -> Path:
    """Return the folder of photographs: SAMPLE_DIR, the shared sample beside the repository, or drawn phantoms."""
    candidates = [settings.SAMPLE_DIR, settings.BASE_DIR.parent / "shared" / "data" / "sample"]
    for candidate in candidates:
        if candidate and (Path(candidate) / "labels.csv").exists():
            return Path(candidate)
    drawn = settings.DATA_DIR / "phantoms"
    if not (drawn / "labels.csv").exists():
        say.step("No sample of photographs here: drawing 240 procedural phantoms, labelled as such (about a minute)")
        phantom.write_sample(drawn, 240, countries=PHANTOM_COUNTRIES)
    return drawn


def _credits(folder: Path) -> str:
    licences = folder / "LICENSES.md"
    if licences.exists():
        return licences.read_text(encoding="utf-8")
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        sources = sorted({row["source"] for row in csv.DictReader(file)})
    return "Sources: " + ", ".join(sources)


# The work


def seed(people: People, say: Say) -> None:
    """Fine-tune, contribute, check, vote, train, evaluate, release: the whole way. What is done already is kept."""
    folder = sample_folder(say)
    first = sites.contribute(people, "ganga", folder, say, steps=40)
    second = sites.contribute(people, "galilee", folder, say, steps=40)
    sites.send_pickle(people, "vltava", say)
    for contribution in (first, second):
        sites.wait_for_checks(contribution, say)
        _vote_on(people, contribution)
    if not Release.objects.exists():
        _train_and_release(people, [first, second], say)
    third = sites.contribute(people, "yangtze", folder, say, steps=24, images=48)
    sites.wait_for_checks(third, say)
    _vote_on(people, third, voters=1)
    sites.draft(people, "straits")
    _keep_one_running(people, say)


def _vote_on(people: People, contribution: Contribution, *, voters: int = 0) -> None:
    for motion in Motion.objects.filter(contribution=contribution, status__in=["reviewing", "open"]):
        vote(motion, people.board[: voters or None])


@transaction.atomic
def _corpus(people: People, generators: list[Contribution], *, slug: str, title: str) -> Corpus:
    now, dataset = timezone.now(), DataSet.objects.get(slug="sample")
    existing = Corpus.objects.filter(slug=slug).first()
    if existing is not None:
        return existing
    corpus = corpora.draft_corpus(people.programme, slug=slug, title=title, by=people.operator, now=now)
    corpora.add_dataset(corpus, dataset, image_count=dataset.train_count, by=people.operator)
    for number, contribution in enumerate(generators):
        contribution.refresh_from_db()
        seed = 100 + number
        corpora.add_generator(corpus, contribution, image_count=SYNTHETIC, seed=seed, now=now, by=people.operator)
    return corpora.freeze(corpus, by=people.operator, now=now)


def _train_and_release(people: People, generators: list[Contribution], say: Say) -> None:
    corpus = _corpus(people, generators, slug="corpus-1", title="Corpus 1: sample and two generators")
    description = "A small vision transformer, pre-trained as a masked auto-encoder on real and contributed images."
    candidate = Candidate.objects.filter(slug="grf-tiny-1").first()
    if candidate is None:
        run = pretrain.queue(
            corpus, slug="grf-tiny-1", name="GRF-Tiny", description=description, steps=STEPS, by=people.operator
        )
        _wait(run, "Pre-training GRF-Tiny (MAE)", say)
        candidate = Candidate.objects.get(run_id=run.pk)
    _wait(evaluate.queue(candidate, by=people.operator), "Evaluating it against the baseline", say)
    release = boards.propose_release(
        candidate,
        name="GRF-Tiny",
        version="0.1",
        license=License.objects.get(spdx_id="CC-BY-NC-4.0"),
        card=cards.draft(candidate, benchmarks.latest(candidate)),
        by=people.operator,
        now=timezone.now(),
    )
    vote(Motion.objects.get(release=release), people.board)
    release.refresh_from_db()
    say.wait("Putting the release's files in place", lambda: release.files.filter(name="SHA256SUMS").exists())
    releases.accept_license(
        release,
        license_sha256=release.license.sha256,
        typed_name=people.researcher.name,
        institution_name="Open University of the Demonstration",
        purpose="Comparing retinal encoders for a thesis.",
        channel=LicenseAcceptance.Channel.BROWSER,
        by=people.researcher,
        now=timezone.now(),
    )


def _wait(run: Run, text: str, say: Say) -> None:
    def is_done() -> bool:
        run.refresh_from_db()
        return run.finished_at is not None

    say.wait(text, is_done)
    if run.status != "succeeded":
        raise RuntimeError(f"{run} ended as {run.status}: {run.error}")


def _keep_one_running(people: People, say: Say) -> None:
    """Leave a longer training running, so that the runs page has something to show."""
    approved = Contribution.objects.filter(status="approved").order_by("pk")
    corpus = _corpus(people, list(approved[:1]), slug="corpus-2", title="Corpus 2: sample and one generator")
    if Run.objects.filter(kind=Run.Kind.PRETRAIN, subject_id=corpus.pk).exists():
        return
    run = pretrain.queue(
        corpus,
        slug="grf-tiny-2",
        name="GRF-Tiny, longer",
        description="The same encoder with many times the steps.",
        steps=LONG_STEPS,
        by=people.operator,
        seed=1,
    )
    say.step(f"{run} is left running")
