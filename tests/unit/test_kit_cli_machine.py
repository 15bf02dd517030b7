"""The command line on odd machines: names and letters that a terminal cannot show, little memory, half a torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.kit import cli, doctor, train_extra
from jobs.kit.errors import KitError
from jobs.kit.findings import FAILS, HOLDS

ROOT = Path(__file__).parents[2]
LATIN = os.fsdecode(b"r\xe9tine")  # a folder that was named on another system: no text in UTF-8


def typed(folder, *arguments, **environment):
    """Run the command in a process of its own, as its streams are made when Python starts."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder), **environment}
    command = [sys.executable, "-m", "jobs.kit", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


def test_a_name_that_is_no_text_is_shown_as_well_as_it_can_be(tmp_path):
    """The key is made by then: an error after it would send the reader wrong."""
    done = typed(tmp_path, "keys", "new", "--key", f"{LATIN}/key.pem", PYTHONIOENCODING="utf-8:strict")
    assert (done.returncode, done.stderr.count(b"Error")) == (0, 0)
    assert done.stdout.splitlines()[2] == rb"Key file:     r\udce9tine/key.pem"


def test_an_error_about_such_a_name_is_a_sentence(tmp_path):
    done = typed(tmp_path, "keys", "show", "--key", LATIN, "--json", PYTHONIOENCODING="utf-8:strict")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "key_missing")
    assert done.stderr.count(b"Traceback") == 0


def test_a_terminal_of_few_letters_shows_the_rest_as_codes(tmp_path):
    done = typed(tmp_path, "keys", "new", "--key", "网/key.pem", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stdout.splitlines()[2]) == (0, rb"Key file:     \u7f51/key.pem")


def test_a_log_on_a_full_disk_ends_no_work(tmp_path):
    """As a night of training is, whose standard error goes to a file of its own."""
    script = (
        "from jobs.kit import terminal\n"
        "with terminal.Bars() as on_progress:\n"
        "    on_progress.every = 0\n"
        "    for step in range(5): on_progress(step, 5, 'Training, loss 1')\n"
        "terminal.say('Next: privacy')\n"
        "print('done')\n"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert (done.returncode, done.stdout) == (0, b"done\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("CUDA error: out of memory"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_memory_that_runs_out_says_what_takes_less(monkeypatch, capsys, error):
    def eats(**_):
        raise error

    monkeypatch.setattr(cli.cli_site.doctor, "callback", eats)
    assert cli.main(["doctor", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["error"]
    assert (told["code"], told["sentence"]) == (
        "out_of_memory",
        "Memory ran out, this machine's or its graphics card's.",
    )


BROKEN = "libcudart.so.12: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize("error", [ImportError(BROKEN, name="torch"), OSError(BROKEN)])
def test_a_torch_that_cannot_be_loaded_is_named(error):
    with pytest.raises(KitError) as caught, train_extra.needed():
        raise error
    assert (caught.value.code, caught.value.sentence) == (
        "train_extra_broken", f"A package that this command needs cannot be loaded: {BROKEN}."
    )  # fmt: skip


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "/data/x"), OSError(28, "No space left")])
def test_a_disk_that_refuses_is_no_broken_package(error):
    with pytest.raises(OSError, match=error.strerror), train_extra.needed():
        raise error


@pytest.mark.parametrize("raised", ["ImportError('libcudart.so.12')", "OSError('libtorch_cuda.so')", "ValueError()"])
def test_doctor_says_that_a_torch_is_broken(tmp_path, raised):
    (tmp_path / "torch.py").write_text(f"raise {raised}")
    done = typed(tmp_path, "doctor", "--json", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    found = {row["name"]: row for row in json.loads(done.stdout)["findings"]}
    assert (done.returncode, found["gpu"]["verdict"]) == (2, FAILS)
    assert found["gpu"]["sentence"].startswith(f"torch is installed and cannot be loaded ({raised.partition('(')[0]}")


def test_doctor_takes_a_package_that_another_distribution_brings(monkeypatch):
    """Pillow-SIMD brings PIL, and no distribution is called pillow then."""
    monkeypatch.setattr(doctor, "PACKAGES", {"PIL": "a-distribution-that-is-not-here"})
    assert doctor._packages() == doctor.Finding("packages", HOLDS, "a-distribution-that-is-not-here (version unknown).")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch, capsys):
    """As a container with a user of its own runs it: no HOME, and no line in /etc/passwd."""
    for name in ("HOME", "XDG_CONFIG_HOME", "CONSORTIUM_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert cli.main(["keys", "show", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "no_home"
