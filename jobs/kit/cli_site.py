"""The commands that get a machine and a folder ready: doctor, prepare, convert."""

from pathlib import Path

import click

from . import convert as conversion
from . import doctor as examination
from . import signin, terminal, train_extra
from .client import Document
from .errors import KitError
from .findings import FAILS, HOLDS, UNKNOWN

HEALTHY = {
    HOLDS: "This machine is ready.",
    UNKNOWN: "Something could not be told; see above.",
    FAILS: "Something has to be mended first; see above.",
}
FEWEST = 20  # privacy.MINIMUM_IMAGES, which needs torch to be imported


@click.command()
@click.option("--folder", type=terminal.existing_folder, default=Path(), help="Where you will work.  [default: here]")
@terminal.as_json_option
def doctor(folder: Path, as_json: bool) -> int:
    """Look at clock, proxy, portal, object store, disk, GPU and packages. Exit status 0 ready, 2 not, 3 cannot tell."""
    try:
        portal = signin.signed_in()
    except KitError as error:
        if error.code != "not_signed_in":
            raise
        portal = None
    return terminal.print_findings(examination.examine(portal, folder), HEALTHY, as_json=as_json)


@click.command()
@click.argument("folder", type=terminal.existing_folder)
@click.option("--out", "out_dir", type=terminal.new_folder, required=True, help="Gets the prepared photographs.")
@click.option(
    "--held-out",
    type=terminal.Finite(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the photographs kept out of training, by patient: the privacy report needs them.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--no-patients", is_flag=True, help="No labels.csv names the patients, and nobody can write one.")
@terminal.as_json_option
def prepare(folder: Path, out_dir: Path, held_out: float, seed: int, no_patients: bool, as_json: bool) -> None:
    """Crop, grade and split the photographs in FOLDER for `fit` and `privacy`. Nothing leaves this machine."""
    from . import prepare as preparation  # noqa: PLC0415 -- numpy takes a moment; --help does without

    with terminal.Bars() as on_progress:
        counts = preparation.prepare(
            folder, out_dir, held_out=held_out, seed=seed, without_patients=no_patients, on_progress=on_progress
        )
    if as_json:
        return terminal.print_json({"out": str(out_dir), **counts})
    click.echo(f"{counts['photographs']} photographs of {counts['patients'] or 'unknown'} patients: {_split(counts)}.")
    click.echo(f"With a class or a grade: {counts['graded']}.")
    click.echo("Quality: " + ", ".join(f"{count} {grade}" for grade, count in sorted(counts["quality"].items())) + ".")
    click.echo(f"Left out: {counts['copies_removed']} copies, {counts['unreadable']} unreadable (see index.csv).")
    if counts["split_from"] == "labels.csv":
        terminal.say("The split of labels.csv was kept; --held-out and --seed were not used.")
    if counts["passed_over"]:
        listed = ", ".join(f"{count} {kind}" for kind, count in counts["passed_over"].items())
        terminal.say(f"Passed over, for they are no JPEG, PNG or TIFF file of this very folder: {listed}.")
    if counts["without_pseudonym"]:
        terminal.say(
            f"{counts['without_pseudonym']} photographs have no patient_group and were split one by one: two "
            "photographs of one patient may now be on both sides. Fill in that column of labels.csv where you can."
        )
    if min(counts["split"].get(side, 0) for side in ("train", "held_out")) < FEWEST:
        terminal.say(
            f"`consortium privacy` needs {FEWEST} photographs on either side, and the portal its report: add "
            "photographs, or prepare again into another --out with another --held-out, before you train."
        )
    terminal.say(f"Next: consortium fit {terminal.quoted(out_dir)} --out run")


def _split(counts: Document) -> str:
    return f"{counts['split'].get('train', 0)} to train on, {counts['split'].get('held_out', 0)} held out"


@click.command()
@click.argument("file", type=terminal.existing_file)
@click.option("--out", "target", type=click.Path(dir_okay=False, path_type=Path), help="[default: FILE.safetensors]")
@terminal.as_json_option
def convert(file: Path, target: Path | None, as_json: bool) -> None:
    """Convert a PyTorch checkpoint FILE of your own (.pth, .pt, .ckpt, .bin) to safetensors, in a limited process."""
    target = target or file.with_suffix(".safetensors")
    with train_extra.needed():
        import torch  # noqa: F401, PLC0415 -- missing in a small installation

        facts = conversion.convert(file, target)
    if as_json:
        return terminal.print_json({"file": str(target), **facts})
    where = f" from its entry {facts['layout']!r}" if facts["layout"] else ""
    click.echo(f"{target}: {facts['tensors']} tensors{where}, {facts['parameters']:,} numbers.")
    if facts["left_out"]:
        terminal.say(f"Left out, for they are no weights: {', '.join(facts['left_out'])}.")
    if facts["narrowed"]:
        terminal.say(f"{facts['narrowed']} tensors had numbers of 64 bits; they were written with 32.")
