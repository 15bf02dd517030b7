"""The commands about synthetic images: sample, contribute synthetic."""

import time
from pathlib import Path
from typing import Any

import click

from . import cli_local, cli_portal, terminal, train_extra
from .client import NEEDS_CHANGES
from .errors import KitError


@click.command()
@click.option("--weights", type=terminal.existing_file, required=True)
@click.option(
    "--n", "count", type=click.IntRange(1, 200_000), required=True, help="How many; so many are one contribution."
)
@click.option("--out", "out_dir", type=terminal.new_folder, required=True)
@cli_local.base_option
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the first image.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@terminal.as_json_option
def sample(weights: Path, count: int, out_dir: Path, base_name: str, seed: int, device: str, as_json: bool) -> None:
    """
    Draw N synthetic images, classes in turn, with a manifest.csv of their seeds and the generator's SHA-256.

    Each image says in its own metadata that it is synthetic. Run again, it goes on where it stopped. Look through
    OUT, delete what you do not want to send, then: consortium check OUT.
    """
    from . import generator  # noqa: PLC0415 -- numpy takes a moment; --help does without

    base = generator.load_base(cli_local.base_folder(base_name))
    cli_local.require_sound(weights, base)
    with train_extra.needed(), terminal.Bars() as on_progress:
        from . import fit, synthetic  # noqa: PLC0415 -- slow imports

        model = generator.load(base, weights).to(fit.choose_device(device))
        today = time.strftime("%Y-%m-%d", time.gmtime())
        new = synthetic.draw(model, base, weights, out_dir, count=count, seed=seed, date=today, on_progress=on_progress)
    if as_json:
        return terminal.print_json({"images": count, "new": new, "out": str(out_dir), "seed": seed})
    click.echo(f"{count} synthetic images and manifest.csv are in {out_dir}.")
    given = "" if base_name == cli_local.DEFAULT_BASE else f" --base {terminal.quoted(base_name)}"
    drawn = f"{terminal.quoted(out_dir)} --weights {terminal.quoted(weights)}"
    terminal.say(f"Next: look through them, then consortium check {drawn}{given}")


@cli_portal.contribute.command("synthetic")
@click.argument("folder", type=terminal.existing_folder)
@cli_portal.sending_options
def contribute_synthetic(folder: Path, base_model: str | None, card_file: Path, **given: Any) -> int:
    """
    Pack the images of FOLDER into shards, sign and send them, and follow the checks until they stand before the board.

    FOLDER is the one of `consortium sample`; --card is the training card of the generator they were drawn from. Exit
    status 0 accepted into review, 2 needs changes, 3 a fault of the platform. Run again, it sends only what is missing.
    """
    from . import generator, synthetic  # noqa: PLC0415 -- as above
    from .checks.shard import check_shards  # noqa: PLC0415 -- as above

    base = generator.load_base(cli_local.base_folder(base_model or cli_portal.base_of(card_file)))
    paths = tuple(synthetic.pack(folder, base))
    result, _ = check_shards(list(paths), base)
    if result.verdict == "fail":
        raise KitError(result.sentence, code=result.evidence["code"], fix=result.fix, exit_code=NEEDS_CHANGES)
    return cli_portal.contribute_files("synthetic", paths, base_model=base.slug, card_file=card_file, **given)
