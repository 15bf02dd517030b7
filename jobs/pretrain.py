"""Pre-training an encoder on a frozen corpus: real photographs, and images sampled from approved generators."""

import math
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contributions.corpora import services as corpora
from contributions.corpora.models import Corpus, CorpusPart
from contributions.embargo import UnderEmbargo
from contributions.models import Contribution
from contributions.uses import TermsExclude
from governance.releases import services as releases
from governance.releases.models import Candidate
from jobs import cache, sandbox, services
from jobs.engine import Attempt, InputRefused, PlatformFault
from jobs.kit import dataset, encoder, ranks
from jobs.kit import pretrain as kit
from jobs.kit.fit import choose_device
from jobs.models import Run
from jobs.validate import LIMITS, scratch_folder
from portal import storage
from portal.accounts.models import User
from portal.programmes.models import BaseModel

FIRST = "00000"
SAMPLES = "samples.rgb"  # what the kit's child writes
MOST_AT_ONCE = 64  # images of one child: as many as check 7 draws of every generator, within the same limits
BATCH = 32
IMAGE_SIZE = 128  # pixels kept for training; crops are taken from it
PRESETS = {"tiny": encoder.TINY, "vit-l-16": encoder.VIT_L_16}


def pretrain(attempt: Attempt) -> None:
    """Pre-train on the corpus that the run names and register the candidate."""
    run = attempt.run
    corpus = Corpus.objects.get(pk=run.subject_id)
    if corpus.frozen_at is None:
        raise InputRefused(f"{corpus} is not frozen. Freeze it, then start the training again.")
    _require_trainable(corpus)
    images = np.concatenate([_images_of(attempt, part) for part in corpus.parts.all()])
    attempt.log(f"{len(images)} images of {IMAGE_SIZE} px from {corpus}.")
    result = _train(attempt, corpus, images)
    key = f"candidates/{result.sha256}.safetensors"
    with (result.folder / "model.safetensors").open("rb") as file:
        storage.put(storage.VAULT, key, file)
    _register(attempt, corpus, result, key, image_count=len(images))
    shutil.rmtree(result.folder)


def _require_trainable(corpus: Corpus) -> None:
    try:
        corpora.require_trainable(corpus, now=services.now())
    except (corpora.NotApproved, corpora.OtherProgramme, TermsExclude, UnderEmbargo) as exc:
        raise InputRefused(str(exc)) from exc


def _train(attempt: Attempt, corpus: Corpus, images: NDArray[np.uint8]) -> kit.PretrainResult:
    inputs = attempt.run.inputs
    preset = replace(PRESETS[inputs["preset"]], name=inputs["slug"])
    config = kit.PretrainConfig(encoder=preset, steps=inputs["steps"], batch=inputs["batch"], seed=inputs["seed"])
    folder = scratch_folder() / f"run-{attempt.run.pk}"  # kept between attempts: checkpoints
    processes = _processes(inputs)
    train = partial(ranks.pretrain, processes=processes) if processes > 1 else kit.pretrain
    attempt.log(f"Training on {choose_device('auto')} in {processes} {'process' if processes == 1 else 'processes'}.")
    result = train(
        images,
        folder,
        config,
        on_progress=partial(_report, attempt, corpus, max(1, config.steps // 100)),
        should_stop=attempt.should_stop,
        device=choose_device("auto"),
    )
    attempt.check()
    return result


def _report(attempt: Attempt, corpus: Corpus, every: int, done: int, total: int, text: str, loss: float) -> None:
    """Tell the progress; what was withdrawn or isolated since the training began ends it here."""
    if done % every == 0 or done == total:
        _require_trainable(corpus)
        attempt.progress(done, total, text)
    if done % (10 * every) == 0:
        attempt.log(text)


def _processes(inputs: dict[str, Any]) -> int:
    """Return in how many processes to train: as asked, but no two on one GPU. Runs of older releases asked for one."""
    import torch  # noqa: PLC0415 -- slow import

    asked = int(inputs.get("processes", 1))
    return asked if choose_device("auto") == "cpu" else math.gcd(asked, torch.cuda.device_count())


def _register(attempt: Attempt, corpus: Corpus, result: kit.PretrainResult, key: str, *, image_count: int) -> None:
    run, inputs = attempt.run, attempt.run.inputs
    size_bytes = (result.folder / "model.safetensors").stat().st_size
    config = encoder.load_encoder(result.folder)
    with services.fenced(run):
        _require_trainable(corpus)
        releases.register_candidate(
            programme=corpus.programme,
            slug=inputs["slug"],
            name=inputs["name"],
            kind=Candidate.Kind.TRAINED,
            description=inputs["description"],
            corpus=corpus,
            run_id=run.pk,
            config={"transform": config.transform, **_document(inputs)},
            training={
                "method": "masked auto-encoder (He et al. 2022)",
                "images": image_count,
                "steps": inputs["steps"],
                "batch": inputs["batch"],
                "seed": inputs["seed"],
                "device": choose_device("auto"),
                "processes": _processes(inputs),
                "seconds": round(result.seconds, 1),
                "losses": result.losses[:: max(1, len(result.losses) // 100)],
            },
            sha256=result.sha256,
            size_bytes=size_bytes,
            storage_key=key,
            by=run.requested_by,
            now=services.now(),
        )
        services.succeed(run, result_sha256=result.sha256, now=services.now())


def _document(inputs: dict[str, str]) -> dict[str, object]:
    preset = replace(PRESETS[inputs["preset"]], name=inputs["slug"])
    return {"encoder": {"architecture": "vit-mae-encoder", **asdict(preset)}}


# Images


def _images_of(attempt: Attempt, part: CorpusPart) -> NDArray[np.uint8]:
    """Return the images of one part, (N, 128, 128, 3)."""
    return _real(attempt, part) if part.kind == CorpusPart.Kind.REAL else _synthetic(attempt, part)


def _real(attempt: Attempt, part: CorpusPart) -> NDArray[np.uint8]:
    """Read the training split only. A cross-validation scores these too, which Evaluation.learnt_from tells."""
    assert part.dataset is not None  # a database constraint
    tar = cache.fetch(part.dataset.storage_key, part.dataset.sha256)
    image_set = dataset.read_image_set(tar)
    train = replace(image_set, records=tuple(r for r in image_set.records if r.column("split") == "train"))
    attempt.progress(0, 1, f"Reading {len(train.records)} photographs of {part.dataset}")
    return dataset.load_pixels(train, IMAGE_SIZE)[: part.image_count]


def _synthetic(attempt: Attempt, part: CorpusPart) -> NDArray[np.uint8]:
    """Sample from an approved generator, or read approved shards, in the sandbox: they are still somebody else's."""
    contribution = part.contribution
    assert contribution is not None  # a database constraint
    assert contribution.base_model is not None  # another one
    with tempfile.TemporaryDirectory(dir=scratch_folder()) as folder:
        child = _Child(attempt, contribution, contribution.base_model, Path(folder))
        if contribution.kind == Contribution.Kind.WEIGHTS:
            attempt.log(f"Sampling {part.image_count} images from {contribution}, seed {part.seed}.")
            pieces = child.sample(part.image_count, part.seed)
        else:
            attempt.log(f"Reading {part.image_count} images of {contribution}.")
            pieces = iter([child.images(["unpack", "--shards", "/in/files"], part.image_count)])
        return np.stack([_enlarged(image) for piece in pieces for image in piece])


class _Child:
    """The kit in the sandbox, with the files of one contribution and its base."""

    def __init__(self, attempt: Attempt, contribution: Contribution, base: BaseModel, folder: Path) -> None:
        self.attempt, self.contribution, self.base, self.folder = attempt, contribution, base, folder
        _gather(contribution, folder / "files")
        self.given = {"files": folder / "files", "base": cache.base_folder(base)}

    def sample(self, count: int, seed: int) -> Iterator[NDArray[np.uint8]]:
        """
        Yield drawn images in pieces: a child that draws them all has no time for many, nor says how far it is.

        They are those of one piece: an image follows from the seed plus its number, and from its class in turn.
        """
        classes = len(self.base.config["classes"])
        step = max(1, MOST_AT_ONCE // classes) * classes
        for start in range(0, count, step):
            self.attempt.progress(start, count, f"Sampling images from {self.contribution}")
            command = ["sample", "--file", f"/in/files/{FIRST}", "--seed", str(seed + start)]
            yield self.images(command, min(step, count - start))

    def images(self, command: list[str], count: int) -> NDArray[np.uint8]:
        """Run one command of the kit's child; return the images that it wrote, (count, S, S, 3)."""
        size = int(self.base.config["image_size"])
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            out = Path(folder) / "out"
            out.mkdir(mode=0o777)
            fixed = ["--base-dir", "/in/base", "--out", "/out", "--n", str(count)]
            expected = count * size * size * 3
            outcome = sandbox.run(
                [sys.executable, "-m", "jobs.kit.child", *command, *fixed],
                read_only=self.given,
                output_dir=out,
                limits=replace(LIMITS, file_bytes=max(LIMITS.file_bytes, expected)),
                on_line=lambda line: None,
                should_stop=self.attempt.should_stop,
            )
            self.attempt.check()
            if outcome.kind != "finished":
                raise PlatformFault(f"Sampling ended as {outcome.kind}.\n{outcome.stderr_tail[-2000:]}")
            pixels = sandbox.collect(out, [SAMPLES], max_bytes=expected)[SAMPLES].read_bytes()
        return np.frombuffer(pixels, dtype=np.uint8).reshape(count, size, size, 3)


def _gather(contribution: Contribution, folder: Path) -> None:
    """Link the files of a contribution into a folder, in the order of their names, under names of ours."""
    folder.mkdir()
    for number, file in enumerate(contribution.files.order_by("name")):
        (folder / f"{number:05d}").hardlink_to(cache.fetch(file.storage_key, file.sha256))


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def queue(
    corpus: Corpus,
    *,
    slug: str,
    name: str,
    description: str,
    steps: int,
    by: User | None,
    seed: int = 0,
    processes: int = 1,
    **more: Any,
) -> Run:
    """
    Queue the pre-training of a tiny encoder on a frozen corpus, in so many processes; `more` as for queue_run.

    Raises:
        NotApproved, OtherProgramme, Isolated, TermsExclude, UnderEmbargo: see corpora.require_trainable.
    """
    corpora.require_trainable(corpus, now=services.now())
    inputs = {
        "slug": slug,
        "name": name,
        "description": description,
        "preset": "tiny",
        "steps": steps,
        "batch": BATCH,
        "seed": seed,
        "processes": processes,
        "corpus_sha256": corpus.manifest_sha256,
    }
    return services.queue_run(
        Run.Kind.PRETRAIN,
        corpus.pk,
        title=f"Pre-train {name}",
        inputs=inputs,
        by=by,
        now=services.now(),
        programme=corpus.programme,
        **more,
    )
