"""
The program that runs inside the sandbox: it reads one submitted file and prints what it finds, a JSON object a line.

    python -m jobs.kit.child check --file FILE --base-dir DIR --out DIR [--name NAME] [--dossier JSON --others DIR]
        [--stream-bytes N] [--first NUMBER --last NUMBER]
    python -m jobs.kit.child check-images --shards DIR --base-dir DIR --out DIR [--generators DIR] [--dossier JSON]
    python -m jobs.kit.child sample --file FILE --base-dir DIR --out DIR --n N --seed SEED
    python -m jobs.kit.child unpack --shards DIR --base-dir DIR --out DIR --n N

Exit status 0 says that a verdict was given, whichever it is. Anything unexpected is 70 (EX_SOFTWARE of sysexits.h) with
the traceback on standard error, out of memory included: a fault of the platform or of this program, which never counts
against the site. Nothing but JSON lines reaches standard output, whatever a library prints.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXIT_UNEXPECTED = 70


def take_standard_output() -> Callable[[dict[str, Any]], None]:
    """Keep standard output for events alone: return the function that writes them, and send all else to stderr."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def emit(event: dict[str, Any]) -> None:
        events.write(json.dumps(event, allow_nan=False, ensure_ascii=True) + "\n")
        events.flush()

    return emit


def check(options: argparse.Namespace, emit: Callable[[dict[str, Any]], None]) -> None:
    from .checks import dossier, weights  # noqa: PLC0415 -- after standard output is safe
    from .generator import load_base  # noqa: PLC0415 -- as above
    from .stream import Stream  # noqa: PLC0415 -- as above

    given = dossier.load_dossier(options.dossier, options.others) if options.dossier else None
    stream = Stream(sys.stdin.fileno(), options.stream_bytes) if options.stream_bytes is not None else None
    weights.run_checks(
        options.file,
        load_base(options.base_dir),
        options.out,
        emit,
        name=options.name,
        dossier=given,
        stream=stream,
        numbers=range(options.first, options.last + 1),
    )


def check_images(options: argparse.Namespace, emit: Callable[[dict[str, Any]], None]) -> None:
    from .checks import dossier, synthetic  # noqa: PLC0415 -- after standard output is safe
    from .generator import load_base  # noqa: PLC0415 -- as above

    given = dossier.load_dossier(options.dossier, options.others) if options.dossier else None
    held = {path.stem: path for path in options.generators.glob("*.safetensors")} if options.generators else {}
    base, paths = load_base(options.base_dir), sorted(options.shards.iterdir())
    synthetic.run_synthetic_checks(paths, base, options.out, emit, dossier=given, generators=held)


def unpack(options: argparse.Namespace, emit: Callable[[dict[str, Any]], None]) -> None:
    """Write N images of checked shards, spread evenly, as sample() writes those of weights."""
    from . import generator, synthetic  # noqa: PLC0415 -- as above

    base, paths = generator.load_base(options.base_dir), sorted(options.shards.iterdir())
    _write(synthetic.some(paths, base, options.n), options, emit)


def sample(options: argparse.Namespace, emit: Callable[[dict[str, Any]], None]) -> None:
    """Write N images drawn from the weights, classes in turn, as raw RGB bytes: nothing there to parse."""
    from . import generator  # noqa: PLC0415 -- as above

    base = generator.load_base(options.base_dir)
    model = generator.load(base, options.file)
    classes = [index % len(base.config["classes"]) for index in range(options.n)]
    steps = int(base.config["sampling_steps"])
    images = generator.sample(model, base.config["scheduler"], classes, seed=options.seed, steps=steps)
    _write(generator.to_uint8(images), options, emit)


def _write(pixels: Any, options: argparse.Namespace, emit: Callable[[dict[str, Any]], None]) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    pixels.tofile(options.out / "samples.rgb")  # (N, S, S, 3)
    emit({"type": "file", "name": "samples.rgb"})


def _command(commands: Any, name: str, run: Callable[..., None], text: str, *, reads: str) -> argparse.ArgumentParser:
    """Add a command that reads a submitted file or folder and a base, and writes to a folder."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text)
    for option in (reads, "base-dir", "out"):
        command.add_argument(f"--{option}", type=Path, required=True)
    command.set_defaults(run=run)
    return command


def _beside(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dossier", type=Path, help="JSON: what came beside what is checked; see checks/dossier.py")
    command.add_argument("--others", type=Path, help="features of other sites' images; see checks/sites.py")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = _command(commands, "check", check, "run the checks on a weights file", reads="file")
    command.add_argument("--name", default="", help="the file's name at the site")
    command.add_argument(
        "--stream-bytes", type=int, help="so large is the file that stream.py takes from standard input"
    )
    command.add_argument("--first", type=int, default=1, help="number of the first check that runs")
    command.add_argument("--last", type=int, default=11, help="and of the last")
    _beside(command)
    command = _command(commands, "check-images", check_images, "run the checks on shards", reads="shards")
    command.add_argument("--generators", type=Path, help="weights that are held, SHA256.safetensors each")
    _beside(command)
    command = _command(commands, "unpack", unpack, "read images out of checked shards", reads="shards")
    command.add_argument("--n", type=int, required=True)
    command = _command(commands, "sample", sample, "draw images from checked weights", reads="file")
    command.add_argument("--n", type=int, required=True)
    command.add_argument("--seed", type=int, required=True)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    emit = take_standard_output()
    try:
        options = parse(arguments)
        options.run(options, emit)
    except Exception:
        traceback.print_exc(file=sys.stderr)
        return EXIT_UNEXPECTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
