"""
Convert a PyTorch checkpoint of the site's own to safetensors, in a child process with limits.

A checkpoint is a pickle, and a pickle can run code. So it is read by torch's own restricted reader (weights_only), in a
process that may use little memory and time, and never by the portal.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from .errors import KitError

GIB = 2**30
CPU_SECONDS = 600
DTYPES = {"torch.float32", "torch.float16", "torch.bfloat16", "torch.float64"}  # the last is narrowed to 32 bits
# Where checkpoints keep the weights: RETFound and MAE "model" (Zhou et al. 2023), timm and Lightning "state_dict",
# DINO "teacher".
LAYERS = ("model", "state_dict", "model_state_dict", "teacher", "params", "module")
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile


class ConvertError(KitError):
    """The file could not be converted."""

    default_code = "not_converted"


def convert(source: Path, target: Path) -> dict[str, Any]:
    """
    Write the weights of a .pth, .pt, .bin or .ckpt file as safetensors.

    Returns:
        tensors, parameters, left_out (names of what is no float tensor), layout (where the weights were), narrowed
        (how many had 64 bits).
    Raises:
        ConvertError: the file asks for more than weights, is damaged, or needs more memory or time than it may.
    """
    if target.exists():
        raise ConvertError(f"{target} exists already.", code="target_exists", fix="Choose another --out.")
    partial = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.touch()  # refused here, not in the child, where the folder may not be written to
    package = __package__ or "consortium_kit"
    command = [sys.executable, "-m", f"{package}.convert", str(source.resolve()), str(partial.resolve())]
    try:
        done = subprocess.run(
            command,
            cwd=Path(__file__).parents[package.count(".") + 1],
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * CPU_SECONDS,
        )
        answer = _answer(done, source)
        partial.replace(target)
    except subprocess.TimeoutExpired:
        raise ConvertError(f"{source.name} took longer than {2 * CPU_SECONDS} s to read.", code="timed_out") from None
    finally:
        partial.unlink(missing_ok=True)
    return answer


def _answer(done: "subprocess.CompletedProcess[str]", source: Path) -> dict[str, Any]:
    """Return what the child said, or say why it said nothing."""
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise ConvertError(
            f"{source.name} could not be read within the limits of memory and time (exit status {done.returncode}).",
            code="child_ended",
            fix="If you made it yourself, save the weights alone: torch.save(model.state_dict(), …), and convert that.",
        ) from None
    if "error" in answer:
        raise ConvertError(**answer["error"])
    return answer


# The child


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Return the float tensors of a checkpoint, contiguous and sharing nothing, and what to tell about them.

    Raises:
        ConvertError
    """
    import torch  # noqa: PLC0415 -- slow import

    try:
        with torch.serialization.safe_globals(
            [argparse.Namespace]
        ):  # RETFound keeps its command line beside the weights
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every way in which a foreign file can be wrong
        raise _not_read(path, error) from None
    layout, weights = _weights_of(loaded)
    floats = _floats(weights)
    if place := _elsewhere(loaded, more_than=_count(weights)):
        raise _not_looked_into(path, place)
    tensors = {_plain(name): value for name, value in floats.items()}
    if len(tensors) < len(floats):
        raise _same_names(path, floats)
    if not tensors:
        raise ConvertError(f"{path.name} holds no weights.", code="no_weights", fix="Give the file of a model.")
    facts = {
        "layout": layout,
        "tensors": len(tensors),
        "parameters": sum(value.numel() for value in tensors.values()),
        "left_out": sorted(str(name) for name in weights if _plain(name) not in tensors)[:20],
        "narrowed": sum(value.dtype == torch.float64 for value in tensors.values()),
    }
    return {name: _apart(value) for name, value in tensors.items()}, facts


def _apart(value: Any) -> Any:
    narrow = value.float() if str(value.dtype) == "torch.float64" else value
    return narrow.detach().clone().contiguous()


def _not_read(path: Path, error: Exception) -> ConvertError:
    """Say what a file asks for beside weights, or that it is damaged."""
    if asked := re.search(r"GLOBAL ([\w.]{1,100})", str(error)):
        sentence = f"{path.name} is not a file of weights alone: it asks for {asked[1]}, so it was not opened further."
        fix = (
            "Where you trust it, load it with torch.load(FILE, weights_only=False), and save the weights alone: "
            'torch.save(loaded["model"], NEW), or whatever their entry is called.'
        )
        return ConvertError(sentence, code="not_weights", fix=fix)
    return ConvertError(
        f"{path.name} cannot be read as a PyTorch checkpoint ({type(error).__name__}), so it was not opened further.",
        code="not_weights",
        fix="It is damaged, or of another kind: see that it is whole (size, SHA-256), or save the weights again.",
    )


def _weights_of(loaded: Any) -> tuple[str, dict[str, Any]]:
    """Return where most of the weights lie in a checkpoint ("" for its top) and them; the first of equals."""
    top = loaded if isinstance(loaded, dict) else {}
    places = {"": top} | {name: top[name] for name in LAYERS if isinstance(top.get(name), dict)}
    layout = max(places, key=lambda name: _count(places[name]))
    return layout, places[layout]


def _count(weights: dict[Any, Any]) -> int:
    return sum(value.numel() for value in _floats(weights).values())


def _elsewhere(loaded: Any, *, more_than: int, levels: int = 3) -> str:
    """Return where more numbers lie than in the place that was taken, as Python writes it; "" where nowhere."""
    if not isinstance(loaded, dict) or not levels:
        return ""
    for name in (name for name in loaded if isinstance(name, str)):  # an optimiser's numbers are by number
        inner = loaded[name] if isinstance(loaded[name], dict) else {}
        if _count(inner) > more_than:
            return f"[{name!r}]"
        if found := _elsewhere(inner, more_than=more_than, levels=levels - 1):
            return f"[{name!r}]{found}"
    return ""


def _not_looked_into(path: Path, place: str) -> ConvertError:
    return ConvertError(
        f"{path.name} keeps its weights where we do not look, in its entry {place}.",
        code="layout_unknown",
        fix=f"Save them alone: torch.save(torch.load(FILE, weights_only=True){place}, NEW), and convert that.",
    )


def _floats(weights: dict[Any, Any]) -> dict[Any, Any]:
    return {
        name: value
        for name, value in weights.items()
        if str(getattr(value, "dtype", "")) in DTYPES and str(getattr(value, "layout", "")) == "torch.strided"
    }


def _same_names(path: Path, floats: dict[Any, Any]) -> ConvertError:
    counts = Counter(map(_plain, floats))
    name = next(name for name, count in counts.items() if count > 1)
    return ConvertError(
        f"{path.name} holds {name} more than once, with and without {' or '.join(PREFIXES)} before its name.",
        code="names_collide",
        fix="Save the weights of one model alone: torch.save(model.state_dict(), …).",
    )


def _plain(name: Any) -> str:
    """Return the name without what wrapping a model puts before it, once or several times."""
    text = str(name)
    while prefix := next((prefix for prefix in PREFIXES if text.startswith(prefix)), ""):
        text = text.removeprefix(prefix)
    return text


def _limit(size: int) -> None:
    """Take away what reading a file of `size` bytes does not need, on top of what is mapped: torch's own libraries."""
    _lower(resource.RLIMIT_AS, _mapped_bytes() + 2 * GIB + 4 * size)
    _lower(resource.RLIMIT_CPU, CPU_SECONDS)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)  # nobody may raise this one: a shared machine's may be lower than ours
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (limit, limit))


def _mapped_bytes() -> int:
    """Return the addresses in use: about 1 GiB with torch for processors, several with one for CUDA."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # no Linux
        return GIB


def main() -> int:
    """Read one checkpoint and write it as safetensors; the last line of standard output says what came of it."""
    source, target = (Path(argument) for argument in sys.argv[1:3])
    from safetensors.torch import save_file  # noqa: PLC0415 -- slow import, with all of torch

    _limit(os.path.getsize(source))  # before a byte of it is read
    try:
        tensors, facts = read_weights(source)
        try:
            save_file(tensors, target, metadata={"format": "pt"})
        except Exception as error:  # the library's own, and the system's
            fix = "See that there is room and that you may write there."
            raise ConvertError(f"The weights cannot be written ({error}).", code="not_written", fix=fix) from None
    except ConvertError as error:
        facts = {"error": {"sentence": error.sentence, "code": error.code, "fix": error.fix}}
    print(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
