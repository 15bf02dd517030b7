"""How a program in the sandbox ends, what is collected from it, and that nothing of it stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import sandbox
from jobs._procfs import children, family
from tests.sandboxes import LIMITS, UNAVAILABLE, Box

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(UNAVAILABLE is not None, reason=UNAVAILABLE or "")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    before = set(children(os.getpid()))  # services that other tests have started
    yield
    assert set(children(os.getpid())) - before == set()


def until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# Limits and outcomes


def test_a_refusal_says_which_code(box: Box) -> None:
    outcome = box.run("import sys; sys.exit('the header is not JSON')")
    assert (outcome.kind, outcome.exit_code, outcome.stderr_tail) == ("refused", 1, "the header is not JSON\n")
    assert outcome.detail == "It ended with exit code 1."


def test_a_crash_names_the_signal(box: Box) -> None:
    outcome = box.run("import ctypes; ctypes.string_at(0)")
    assert (outcome.kind, outcome.exit_code) == ("crashed", 128 + signal.SIGSEGV)
    assert outcome.detail == "It was ended by SIGSEGV."


def test_a_sleeper_is_out_of_time(box: Box) -> None:
    outcome = box.run("import time; time.sleep(60)", replace(LIMITS, wall_seconds=0.5))
    assert (outcome.kind, outcome.exit_code) == ("timed_out", None)
    assert outcome.seconds < 5


def test_a_busy_child_is_out_of_time(box: Box) -> None:
    assert box.run("while True: pass", replace(LIMITS, cpu_seconds=1)).kind == "timed_out"


def test_processor_time_is_counted_over_all_processes(box: Box) -> None:
    source = """
        import os, time
        while True:
            if not os.fork():
                while time.process_time() < 0.2: pass
                os._exit(0)
            os.wait()
    """
    assert box.run(source, replace(LIMITS, cpu_seconds=1)).kind == "timed_out"


def test_a_patient_memory_eater_is_out_of_memory(box: Box) -> None:
    outcome = box.run("""
        import time
        kept = []
        while True:
            kept.append(bytearray(b"x" * 16 * 1024**2))
            time.sleep(0.02)
    """)
    assert outcome.kind == "out_of_memory"
    assert outcome.peak_rss_bytes is not None
    assert LIMITS.memory_bytes < outcome.peak_rss_bytes < 2 * LIMITS.memory_bytes


def test_a_greedy_memory_eater_is_out_of_memory(box: Box) -> None:
    assert box.run("bytearray(64 * 1024**3)").kind == "out_of_memory"


def test_memory_is_counted_over_all_processes(box: Box) -> None:
    outcome = box.run("""
        import os, time
        for _ in range(8):
            if not os.fork():
                kept = bytearray(b"x" * 64 * 1024**2)
                time.sleep(60)
        time.sleep(60)
    """)
    assert outcome.kind == "out_of_memory"


def test_a_large_mapped_file_is_not_memory(box: Box) -> None:
    with box.input.open("wb") as file:
        file.truncate(512 * 1024**2)
    outcome = box.run("""
        import mmap, time
        file = open("/in/input", "rb")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        print(sum(mapped[place] for place in range(0, len(mapped), 4096)))
        time.sleep(0.3)
    """)
    assert (outcome.kind, outcome.stderr_tail, box.lines) == ("finished", "", ["0"])


def test_a_fork_bomb_stays_small_and_runs_out_of_time(box: Box) -> None:
    source = """
        import os, time
        while True:
            try:
                os.fork()
            except BlockingIOError:
                time.sleep(0.1)
    """
    most, before = 0, set(children(os.getpid()))

    def look() -> bool:
        nonlocal most
        (bwrap,) = set(children(os.getpid())) - before
        most = max(most, len(family(bwrap)))
        return False

    outcome = box.run(source, replace(LIMITS, wall_seconds=2), should_stop=look)
    assert outcome.kind == "timed_out"
    assert 10 < most <= LIMITS.processes + 2


def test_a_daemon_does_not_outlive_the_child(box: Box) -> None:
    outcome = box.run("""
        import os, time
        if not os.fork():
            os.setsid()
            if not os.fork():
                time.sleep(60)
            os._exit(0)
        os.wait()
    """)
    assert outcome.kind == "finished"
    assert outcome.seconds < 10


def test_one_large_file_is_too_much_output(box: Box) -> None:
    assert box.run("open('/out/x', 'wb').write(bytes(8 * 1024**2))").kind == "output_exceeded"
    assert (box.out / "x").stat().st_size <= LIMITS.file_bytes


@pytest.mark.parametrize("then", ["pass", "os.unlink(f'/out/{number}')"])
def test_a_disk_filler_is_too_much_output(box: Box, then: str) -> None:
    outcome = box.run(f"""
        import os, time
        kept = []
        for number in range(200):
            file = open(f"/out/{{number}}", "wb")
            file.write(os.urandom(1024**2)); file.flush()
            kept.append(file)
            {then}
            time.sleep(0.05)
    """)
    assert outcome.kind == "output_exceeded"


@pytest.mark.parametrize(
    "make", ["[os.mkdir(f'/out/{number}') for number in range(6000)]", "os.makedirs('/out' + '/x' * 100)"]
)
def test_too_many_or_too_deep_folders_are_too_much_output(box: Box, make: str) -> None:
    assert box.run(f"import os; {make}").kind == "output_exceeded"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_gigabyte_printer_is_stopped(box: Box, stream: str) -> None:
    outcome = box.run(f"""
        import sys
        for _ in range(1024):
            sys.{stream}.write("x" * 1024**2)
    """)
    assert outcome.kind == "output_exceeded"
    assert outcome.seconds < 10
    assert sum(map(len, box.lines)) <= LIMITS.output_bytes
    assert len(outcome.stderr_tail) <= 8192


def test_the_lines_within_the_limit_are_handed_on_however_they_arrive(box: Box) -> None:
    outcome = box.run("print('a' * 100 + chr(10) + 'b' * 100)", limits=replace(LIMITS, output_bytes=150))
    assert (outcome.kind, box.lines) == ("output_exceeded", ["a" * 100])


def test_a_long_line_is_cut(box: Box) -> None:
    assert [len(line) for line in box.ask("print('x' * 100_000); print('y')")] == [65_536, 1]


def test_terminal_escapes_are_replaced(box: Box) -> None:
    outcome = box.run(r"""
        import sys
        print("\x1b[31mred\x07 \x9b\u202e\u2028 caf\xe9")
        sys.stdout.buffer.write(b"\xff\xfe broken\r\n")
        sys.stderr.write("\x1b]0;title\x07\nend")
    """)
    assert outcome.kind == "finished"
    assert box.lines == ["\ufffd[31mred\ufffd \ufffd\ufffd\ufffd café", "\ufffd\ufffd broken"]
    assert outcome.stderr_tail == "\ufffd]0;title\ufffd\nend"


# What is collected


def collect(box: Box, name: str) -> str:
    with pytest.raises(sandbox.OutputRefused) as refused:
        sandbox.collect(box.out, [name], 10)
    return str(refused.value)


def test_links_pipes_and_folders_are_refused(box: Box) -> None:
    box.ask("""
        import os
        os.symlink("/etc/passwd", "/out/link")
        os.mkfifo("/out/pipe")
        os.mkdir("/out/folder")
        open("/out/twice", "w").close()
        os.link("/out/twice", "/out/twice-too")
        open("/out/large", "w").write("x" * 11)
    """)
    assert collect(box, "link") == "The output link cannot be opened as a file: Too many levels of symbolic links."
    assert collect(box, "pipe") == "The output pipe is not an ordinary file."
    assert collect(box, "folder") == "The output folder is not an ordinary file."
    assert collect(box, "twice") == "The output twice is not an ordinary file."
    assert collect(box, "large") == "The output large has 11 bytes; at most 10 are accepted."
    assert collect(box, "missing") == "The output missing cannot be opened as a file: No such file or directory."


@pytest.mark.parametrize("name", ["../input.txt", "/etc/passwd", "..", ""])
def test_only_plain_names_are_collected(box: Box, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a file"):
        sandbox.collect(box.out, [name], 10)


# The worker dies

HELPER = """
import sys
from pathlib import Path
from jobs import sandbox
argv = [sys.executable, "-I", "-S", "-u", "-c", "import os, time; os.fork() and print('ready'); time.sleep(600)"]
limits = sandbox.Limits(60, 10, 2**28, 2**16, 2**20, 16, 2**20)
sandbox.run(argv, read_only={}, output_dir=Path(sys.argv[1]), limits=limits, on_line=print)
"""


def test_no_child_outlives_a_killed_worker(box: Box) -> None:
    argv = [sys.executable, "-u", "-c", HELPER, str(box.out)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as helper:
        assert helper.stdout
        assert helper.stdout.readline() == "ready\n"
        inside = family(helper.pid)[1:]
        assert len(inside) == 4  # bubblewrap, its first process inside, the child and its fork
        helper.kill()
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside))
