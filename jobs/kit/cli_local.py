"""The commands that need no portal: fit, check."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from . import terminal, train_extra
from .client import NEEDS_CHANGES, Document
from .errors import ContainerError, KitError

BASES = Path(__file__).parent / "base"
DEFAULT_BASE = "fundus-64"

base_option = click.option(
    "--base", "base_name", default=DEFAULT_BASE, show_default=True, metavar="NAME|DIR", help="Base generator."
)


def base_folder(name: str) -> Path:
    folder = BASES / name if (BASES / name / "config.json").is_file() else Path(name)
    if not (folder / "config.json").is_file():
        known = ", ".join(sorted(path.parent.name for path in BASES.glob("*/config.json"))) or "none"
        raise KitError(
            f"There is no base generator {name}.", code="base_missing", fix=f"Known here: {known}; or give its folder."
        )
    return folder


@click.command()
@click.argument("folder", type=terminal.existing_folder)
@click.option("--out", "out_dir", type=terminal.new_folder, required=True, help="Gets weights and training card.")
@base_option
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option("--lr", type=terminal.Finite(0, 1, min_open=True), default=1e-4, show_default=True, help="Learning rate.")
@click.option("--seed", type=terminal.seed, default=0, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--noise-multiplier",
    type=terminal.Finite(0),
    default=0.0,
    show_default=True,
    help="Above 0: differential privacy (DP-SGD); the training card then states epsilon.",
)
@click.option(
    "--clip-norm", type=terminal.Finite(0, min_open=True), default=1.0, show_default=True, help="DP-SGD only."
)
@click.option("--resume", is_flag=True, help="Go on with the stopped run in --out.")
@terminal.as_json_option
def fit(
    folder: Path,
    out_dir: Path,
    base_name: str,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    device: str,
    noise_multiplier: float,
    clip_norm: float,
    resume: bool,
    as_json: bool,
) -> None:
    """Fine-tune the base generator on the photographs in FOLDER."""
    base_dir = base_folder(base_name)
    _require_fresh(out_dir, resume)
    with train_extra.needed():
        import torch  # noqa: F401, PLC0415 -- slow import, and missing in a small installation

        from . import dp  # noqa: PLC0415 -- as above
        from . import fit as training  # noqa: PLC0415 -- as above

        training.choose_device(device)  # before an hour of reading, not after it
        if noise_multiplier:
            dp.require_noise(noise_multiplier)
    config = training.FitConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=lr,
        seed=seed,
        device=device,
        noise_multiplier=noise_multiplier,
        clip_norm=clip_norm,
    )
    with train_extra.needed(), terminal.Bars() as on_progress:
        card = training.fit(folder, base_dir, out_dir, config, on_progress)
    weights, card_file = out_dir / "weights.safetensors", out_dir / "training_card.json"
    if as_json:
        return terminal.print_json({"weights": str(weights), "card": str(card_file), "training_card": card})
    loss = "unknown" if card["final_loss"] is None else card["final_loss"]
    click.echo(f"Trained on {card['images']} photographs for {card['steps']} steps; final loss {loss}.")
    click.echo(f"{weights}\n{card_file}")
    report = terminal.quoted(out_dir / "privacy_report.json")
    terminal.say(f"Next: open {card_file} and add what the folder cannot tell (demographics; see README.md), then")
    base = "" if base_name == DEFAULT_BASE else f" --base {terminal.quoted(base_name)}"
    given, card_given = terminal.quoted(weights), terminal.quoted(card_file)
    terminal.say(f"  consortium privacy {terminal.quoted(folder)} --weights {given} --card {card_given}{base}")
    terminal.say(f"  consortium check {given} --card {card_given} --privacy {report}{base}")


def _require_fresh(out_dir: Path, resume: bool) -> None:
    """Never write over weights, never go on with another run without being told."""
    stopped = (out_dir / "state.safetensors").exists()
    if (out_dir / "weights.safetensors").exists() and not stopped:  # with its state, it was stopped at its very end
        raise KitError(
            f"{out_dir} holds weights already.", code="out_not_empty", fix="Choose another --out, or remove them."
        )
    if stopped and not resume:
        fix = "Add --resume to go on with it, or remove state.safetensors to start again."
        raise KitError(f"{out_dir} holds a stopped run.", code="run_stopped", fix=fix)
    if resume and not stopped:
        terminal.say(f"{out_dir} holds no stopped run: starting from the beginning.")


@click.command()
@click.argument("file", metavar="FILE|FOLDER", type=terminal.existing_path)
@base_option
@click.option("--weights", type=terminal.existing_file, help="For a FOLDER: draw some of its images again from these.")
@click.option("--card", type=terminal.existing_file, help="training_card.json of `fit`.")
@click.option("--signature", type=terminal.existing_file, help="What `sign` wrote.")
@click.option("--privacy", type=terminal.existing_file, help="What `privacy` wrote.")
@click.option("--out", "out_dir", type=terminal.new_folder, help="Keep the sheet of generated samples here.")
@terminal.as_json_option
def check(
    file: Path,
    base_name: str,
    weights: Path | None,
    card: Path | None,
    signature: Path | None,
    privacy: Path | None,
    out_dir: Path | None,
    as_json: bool,
) -> int:
    """
    Run the portal's checks on a weights FILE, or on the synthetic images of a FOLDER, before sending it.

    Exit status 0 for pass and warning, 2 for fail, 3 when the checks themselves broke.
    """
    from . import generator  # noqa: PLC0415 -- numpy takes a moment; --help does without
    from .checks.dossier import Dossier  # noqa: PLC0415 -- as above
    from .checks.weights import run_checks  # noqa: PLC0415 -- as above

    base = generator.load_base(base_folder(base_name))
    if not file.is_dir():
        generator.require_whole(base)  # here, not in check 5: the centre fetched its base by the hash
    given = [read_json(path) if path else None for path in (card, signature, privacy)]
    dossier = Dossier(card=given[0], signature=given[1], privacy=given[2])
    found: list[Document] = []
    scratch_folder = tempfile.TemporaryDirectory(prefix="consortium-")
    with train_extra.needed(), scratch_folder as scratch, terminal.Bars() as on_progress:

        def on_event(event: Document) -> None:
            if event["type"] == "progress":
                on_progress(event["done"], event["total"], event["text"])
            elif event["type"] == "check":
                on_progress.close()
                found.append({key: value for key, value in event.items() if key != "type"})
                if not as_json:
                    terminal.print_check(found[-1])

        try:
            if file.is_dir():
                _check_folder(file, base, out_dir or Path(scratch), on_event, dossier, weights)
            else:
                run_checks(file, base, out_dir or scratch, on_event, name=file.name, dossier=dossier)
        except ModuleNotFoundError as error:
            if not train_extra.is_missing(error):
                raise
            on_event({"type": "check", **_not_run(error.name or "", after=found[-1]["number"] if found else 0)})
    verdict = next((v for v in ("fail", "warn") if any(row["verdict"] == v for row in found)), "pass")
    if as_json:
        terminal.print_json({"file": str(file), "base": base.slug, "verdict": verdict, "checks": found})
    else:
        click.echo(f"{file.name}: {verdict}")
    return NEEDS_CHANGES if verdict == "fail" else 0


def _check_folder(
    folder: Path, base: Any, out_dir: Path, on_event: Callable[[Document], None], dossier: Any, weights: Path | None
) -> None:
    from . import scan, synthetic  # noqa: PLC0415 -- as in check
    from .checks.synthetic import run_synthetic_checks  # noqa: PLC0415 -- as above

    held = {scan.sha256_of(weights): weights} if weights else {}
    paths = synthetic.pack(folder, base)
    run_synthetic_checks(paths, base, out_dir, on_event, dossier=dossier, generators=held)


def read_json(path: Path) -> Document:
    """Read a document that the kit wrote; the name of the file is in the error."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_no_number)
    except json.JSONDecodeError as error:
        fix = "Correct what stands there: a comma too many, a quote too few, or a bracket."
        where = f"line {error.lineno}, column {error.colno}"
        raise KitError(f"{path} is no JSON at {where} ({error.msg}).", code="document_invalid", fix=fix) from None
    except UnicodeDecodeError:
        raise KitError(f"{path} is no text in UTF-8.", code="document_invalid", fix="Save it in UTF-8.") from None
    except (ValueError, RecursionError) as error:
        sentence = f"{path} is no JSON document of the kit ({error})."
        raise KitError(sentence, code="document_invalid", fix="Correct what stands there.") from None
    if not isinstance(document, dict):
        fix = "Give the file as the kit wrote it: training_card.json, privacy_report.json or a .signed.json."
        raise KitError(f"{path} is no JSON document of the kit.", code="document_invalid", fix=fix)
    return document


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")


def _not_run(package: str, *, after: int) -> Document:
    """Return the line for the first check that the packages for images are missing for; the third is the portal's."""
    return {
        "number": after + 1 if after != 2 else 4,
        "name": "not run",
        "verdict": "warn",
        "sentence": f"Not run here, nor what follows: {package} is not installed. The portal will run them.",
        "fix": f"Run: {train_extra.INSTALL}",
        "evidence": {"code": "not_run"},
        "duration_seconds": 0.0,
    }


def require_sound(weights: Path, base: Any) -> None:
    """Refuse a file that is no weights file of this base before anything reads it."""
    from .checks import container, schema  # noqa: PLC0415 -- as in check

    result, found = container.check_container(weights, base)
    if found is not None:
        result = schema.check_schema(found, base)
    if result.verdict == "fail":
        raise KitError(result.sentence, code=result.evidence.get("code", ""), fix=result.fix, exit_code=NEEDS_CHANGES)


def require_sendable(weights: Path, base_name: str) -> str:
    """
    Refuse a file that checks 1 and 4 would refuse; of a base that is not here, one that is no weights file.

    Returns:
        The slug of the base, which the portal knows it by.
    """
    from . import container, generator  # noqa: PLC0415 -- as in check

    try:
        base = generator.load_base(base_folder(base_name))
    except KitError:
        if Path(base_name).is_dir():
            raise
        base = None  # the portal knows it
    if base is not None:
        require_sound(weights, base)
        return str(base.slug)
    try:
        container.read_container(weights, container.Limits())
    except ContainerError as error:
        raise KitError(error.sentence, code=error.code, fix=error.fix, exit_code=NEEDS_CHANGES) from None
    return base_name
