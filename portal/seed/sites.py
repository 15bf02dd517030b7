"""What the demonstration's sites do: the kit's own commands, against the running portal."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from contributions import services as contributions
from contributions.models import Contribution
from jobs.kit import keys, privacy, sending, statements
from jobs.kit.client import Portal
from portal.accounts import services as accounts
from portal.institutions import signing_keys
from portal.institutions.models import Membership
from portal.programmes.models import BaseModel
from portal.seed.consortium import People
from portal.seed.say import Say

COUNTRY = {"ganga": "IN", "galilee": "IL", "yangtze": "CN"}
STANDS_FOR = "Openly licensed photographs of the same country stand in for the site's own in this demonstration."


def contribute(people: People, key: str, sample: Path, say: Say, *, steps: int, images: int = 0) -> Contribution:
    """
    Fine-tune at the site with `consortium fit`, send it with `consortium contribute`; return the contribution.

    Args:
        images: draw so many, and send those instead of the weights.
    """
    institution = people.sites[key]
    title = f"{'Images drawn from ' if images else ''}fundus-64 fine-tuned at {institution}"
    sent = Contribution.objects.filter(institution=institution, title=title).exclude(status="draft").first()
    if sent is not None:
        return sent
    with tempfile.TemporaryDirectory(prefix="site-") as folder:
        photographs, out, drawn = (str(Path(folder) / name) for name in ("photographs", "out", "drawn"))
        weights, card = f"{out}/weights.safetensors", f"{out}/training_card.json"
        count = _site_images(sample, COUNTRY[key], Path(photographs))
        say.step(f"{institution}: fine-tuning the generator with the kit, {steps} steps on {count} photographs")
        _kit(people, key, "fit", photographs, "--out", out, "--steps", str(steps))
        _complete_card(Path(card))
        measured, subject = [], ["weights", weights]
        if images:
            say.step(f"{institution}: drawing {images} images")
            _kit(people, key, "sample", "--weights", weights, "--n", str(images), "--out", drawn)
            measured, subject = ["--images", drawn], ["synthetic", drawn]
        say.step(f"{institution}: measuring what they give away, and signing the report")
        signing = ["--key", str(_register_key(people, key, Path(folder)))]
        report = f"{folder}/privacy_report.json"
        _kit(
            people, key, "privacy", photographs, "--weights", weights, *measured, *signing, "--most", "40",
            "--out", report,
        )  # fmt: skip
        say.step(f"{institution}: contributing through the API")
        _kit(
            people, key, "contribute", *subject, "--institution", institution.slug, "--title", title,
            "--card", card, *signing, "--privacy", report, "--no-wait",
        )  # fmt: skip
    return Contribution.objects.exclude(status="draft").get(institution=institution, title=title)


def _site_images(sample: Path, country: str, folder: Path) -> int:
    """
    Copy the photographs of one country (any, where the sample has none) to the site's own folder; return how many
    train.

    Those of the splits val and test are held out: the privacy report compares with them.
    """
    (folder / "images").mkdir(parents=True)
    with (sample / "labels.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    own = [row for row in rows if row["country"] == country]
    if min(_count(own, train) for train in (True, False)) < privacy.MINIMUM_IMAGES:
        own = rows[:200]
    for row in own:
        shutil.copy(sample / "images" / row["file"], folder / "images" / row["file"])
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(own[0]))
        writer.writeheader()
        writer.writerows(own)
    return _count(own, True)


def _count(rows: list[dict[str, str]], train: bool) -> int:
    return sum((row["split"] == "train") is train for row in rows)


def _register_key(people: People, key: str, folder: Path) -> Path:
    """Make the site's signing key, and let its signing official register the public half."""
    path = folder / "signing-key.pem"
    site = people.sites[key]
    signing_keys.register(
        site,
        registration=keys.registration(keys.create(path), site.slug),
        label="Demonstration",
        by=people.of(key, Membership.Role.SIGNING_OFFICIAL),
        now=timezone.now(),
    )
    return path


def _complete_card(path: Path) -> None:
    """Answer what the kit cannot know."""
    card = json.loads(path.read_text(encoding="utf-8"))
    card["demographics"] = STANDS_FOR
    card["cameras"] = card.get("cameras") or "unknown"
    path.write_text(json.dumps(card), encoding="utf-8")


def _kit(people: People, key: str, *arguments: str) -> None:
    """Run the kit as the site's steward would, in a process of its own."""
    environment = {"CONSORTIUM_URL": settings.PORTAL_URL, "CONSORTIUM_TOKEN": _token(people, key)}
    done = subprocess.run(
        [sys.executable, "-m", "jobs.kit", *arguments],
        cwd=settings.BASE_DIR,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"consortium {arguments[0]} ended with {done.returncode}: {done.stderr[-2000:]}")


def _token(people: People, key: str) -> str:
    steward = people.of(key, Membership.Role.STEWARD)
    return accounts.create_token(steward, name="demonstration", now=timezone.now())


def wait_for_checks(contribution: Contribution, say: Say) -> None:
    """Wait until a worker has checked the contribution."""

    def is_done() -> bool:
        contribution.refresh_from_db()
        return contribution.status not in {"submitted", "validating"}

    say.wait(f"A worker checks {contribution}", is_done)


def draft(people: People, key: str, title: str = "Fine-tuning of 2026, in preparation", **card: Any) -> Contribution:
    """Leave a draft, as a site that has not finished."""
    existing = Contribution.objects.filter(institution=people.sites[key], title=title).first()
    return existing or contributions.draft(
        people.sites[key],
        kind=Contribution.Kind.WEIGHTS,
        title=title,
        base_model=BaseModel.objects.get(slug="fundus-64"),
        training_card=card,
        by=people.of(key, Membership.Role.STEWARD),
        now=timezone.now(),
    )


def send_pickle(people: People, key: str, say: Say) -> None:
    """Send what the checks refuse, a renamed text of 40 bytes, so that a rejection can be seen."""
    institution, title = people.sites[key], "Generator in the old checkpoint format"
    if Contribution.objects.filter(institution=institution, title=title).exclude(status="draft").exists():
        return
    card = {
        "images": 520, "patients": 260, "steps": 400, "batch_size": 16, "learning_rate": 1e-4, "seed": 1,
        "augmentation": "flips", "deduplication": "by file hash", "dp": {"used": False}, "cameras": "not recorded",
        "demographics": "not recorded",
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="site-") as folder:
        weights = Path(folder) / "generator.pth"
        weights.write_bytes(b"\x80\x02}q\x00." + b"old checkpoint format, never opened")
        signing = keys.load(_register_key(people, key, Path(folder)))
        sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        report = statements.sign(statements.PRIVACY, weights.name, sha256, {}, signing)
        # Not by `consortium contribute`, which refuses such a file before it sends anything.
        parcel = sending.Parcel("weights", institution.slug, "fundus-64", title, card, (weights,), report, signing)
        sending.send(Portal(settings.PORTAL_URL, _token(people, key)), parcel)
    say.step(f"{institution}: sent a .pth file, which the checks refuse")
