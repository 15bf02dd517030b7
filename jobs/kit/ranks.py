"""Pre-training in several processes of one machine: torchrun starts them, each computes a part of every batch."""

import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .child import EXIT_UNEXPECTED, take_standard_output
from .encoder import EncoderConfig
from .errors import is_out_of_memory
from .pretrain import OnProgress, PretrainConfig, PretrainError, PretrainResult, require_equal_shares
from .pretrain import pretrain as pretrain_here

CONFIG, IMAGES, STOP, LOG = "processes.json", "images.npy", "stop", "torchrun.log"
LOOK_SECONDS = 0.2
KILLED_AFTER_SECONDS = 10.0  # torchrun's processes, after it was asked to end them
TAIL_CHARACTERS = 2000
STARTED_BY = "KIT_STARTED_BY"  # the number of the process without which this one has no purpose
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# The processes need no secret of the worker that starts them.
KEPT = ("PATH", "HOME", "LANG", "LC_", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "OMP_", "MKL_", "CUDA", "NVIDIA_",
        "NCCL_", "GLOO_", "TORCH", "PYTORCH_")  # fmt: skip


def pretrain(
    images: NDArray[np.uint8],
    out_dir: Path,
    config: PretrainConfig,
    *,
    processes: int,
    on_progress: OnProgress,
    should_stop: Callable[[], bool],
    device: str = "cpu",
) -> PretrainResult:
    """
    Pre-train in so many processes of this machine, each on a GPU of its own or sharing the CPU's cores.

    When this ends, or is killed, none of them is left. The weights equal those of one process but for the rounding of
    sums; from run to run with the same number of processes on the same machine they are the same.

    Args:
        should_stop: asked several times a second; when true, a checkpoint is written after the step at work.
    Raises:
        PretrainError: as pretrain.pretrain; process_ended, where a process was killed or failed otherwise.
        MemoryError: a process, or its GPU, had too little memory.
    """
    require_equal_shares(config, processes)
    _write(out_dir, images, config, device)
    with (out_dir / LOG).open("wb") as log:
        launcher = subprocess.Popen(
            [sys.executable, "-m", __name__, "--processes", str(processes), str(out_dir)],
            cwd=Path(__file__).parents[__name__.count(".")],
            env=_environment(processes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert launcher.stdout is not None
    try:
        said = _follow(launcher.stdout, out_dir, on_progress, should_stop)
    finally:
        _end(launcher)
    return _result(said, out_dir)


def _write(folder: Path, images: NDArray[np.uint8], config: PretrainConfig, device: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP).unlink(missing_ok=True)
    np.save(folder / IMAGES, images)
    (folder / CONFIG).write_text(json.dumps({"config": asdict(config), "device": device}), encoding="utf-8")


def _environment(processes: int) -> dict[str, str]:
    cores = max(1, (os.cpu_count() or 1) // processes)
    kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
    # gloo asks for an interface; a machine whose name does not resolve has this one at least.
    return {"OMP_NUM_THREADS": str(cores), "GLOO_SOCKET_IFNAME": "lo", **kept, STARTED_BY: str(os.getpid())}


def _follow(
    stdout: IO[bytes], folder: Path, on_progress: OnProgress, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Hand on the progress until the end; return the result, or the error that the processes told first."""
    begun = False
    for line in _lines(stdout):
        stopping = should_stop()
        if stopping and not begun:
            return {"type": "result", "losses": [], "finished": False, "sha256": "", "seconds": 0.0}
        if stopping:
            (folder / STOP).touch()
        event = dict[str, Any](json.loads(line or b"{}"))
        if event.get("type") == "progress":
            begun = True
            if not stopping:
                on_progress(event["done"], event["total"], event["text"], event["loss"])
        elif event:
            return event  # an error told later is one that it brought about
    return {"type": "nothing"}


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a pipe as they come, and an empty one where none came for a moment."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(LOOK_SECONDS):
                yield b""
                continue
            data = os.read(stream.fileno(), 65_536)
            if not data:
                return
            *whole, rest = (rest + data).split(b"\n")
            yield from whole


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """End torchrun, which ends its processes; killed, they end by the signal of its death."""
    launcher.terminate()
    try:
        launcher.wait(KILLED_AFTER_SECONDS)
    except subprocess.TimeoutExpired:
        launcher.kill()
        launcher.wait()
    assert launcher.stdout is not None
    launcher.stdout.close()


def _result(said: dict[str, Any], folder: Path) -> PretrainResult:
    """Return the result that the first process told, or raise what went wrong."""
    if said["type"] == "result":
        losses = [(int(step), float(loss)) for step, loss in said["losses"]]
        return PretrainResult(folder, losses, said["finished"], said["sha256"], said["seconds"])
    if said["type"] == "nothing":
        tail = (folder / LOG).read_text(errors="replace")[-TAIL_CHARACTERS:]
        raise PretrainError(f"A process of the training ended before its time: {tail}", code="process_ended")
    if said["code"] == "out_of_memory":
        raise MemoryError(said["message"])
    raise PretrainError(said["message"], code=said["code"], fix=said["fix"])


# In the processes


def end_with_starter() -> None:
    """Have the kernel kill this process when the one that started it ends (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.environ.get(STARTED_BY, str(os.getppid())) != str(os.getppid()):
        sys.exit(EXIT_UNEXPECTED)  # it had ended already


def launch(folder: str, processes: str) -> int:
    """Be torchrun. A failed process is not started again here: the engine does that, from the last checkpoint."""
    from torch.distributed import run  # noqa: PLC0415 -- slow import

    os.environ[STARTED_BY] = str(os.getpid())
    here = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", processes, "--max-restarts", "0"]
    try:
        run.main([*here, "-m", __spec__.name, folder])
    except Exception:
        traceback.print_exc(file=sys.stderr)
        return EXIT_UNEXPECTED
    return 0


def work(folder: Path) -> int:
    """Be one of the processes: train, and say on standard output how it goes (the first alone) and what went wrong."""
    emit = take_standard_output()
    try:
        _train(folder, emit)
    except PretrainError as error:
        emit({"type": "error", "code": error.code, "message": error.sentence, "fix": error.fix})
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        if is_out_of_memory(error):
            emit({"type": "error", "code": "out_of_memory", "message": str(error), "fix": ""})
        return EXIT_UNEXPECTED
    return 0


def _train(folder: Path, emit: Callable[[dict[str, Any]], None]) -> None:
    import torch  # noqa: PLC0415 -- slow import

    document = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    on_gpu = document["device"].startswith("cuda")
    device = f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else "cpu"
    if on_gpu:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
    first = torch.distributed.get_rank() == 0

    def tell(done: int, total: int, text: str, loss: float) -> None:
        emit({"type": "progress", "done": done, "total": total, "text": text, "loss": loss})

    images = np.load(folder / IMAGES, mmap_mode="c")  # shared by the processes; torch warns of what is read-only
    result = pretrain_here(
        images,
        folder,
        _config(document["config"]),
        on_progress=tell if first else None,
        should_stop=(folder / STOP).exists if first else None,
        device=device,
    )
    with suppress(RuntimeError):  # where another process has gone already, there is nothing to take leave of
        torch.distributed.destroy_process_group()
    if first:
        told = {name: value for name, value in vars(result).items() if name != "folder"}
        emit({"type": "result", **told})


def _config(document: dict[str, Any]) -> PretrainConfig:
    encoder = EncoderConfig(**_tuples(document["encoder"]))
    return PretrainConfig(**{**_tuples(document), "encoder": encoder})


def _tuples(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with tuples where JSON has lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}


if __name__ == "__main__":
    end_with_starter()
    code = launch(sys.argv[3], sys.argv[2]) if sys.argv[1] == "--processes" else work(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)  # a process group that was not taken leave of can keep an interpreter from ending
