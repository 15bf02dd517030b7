"""The embedded default without its services: secrets, ports, child processes, the lock, the requirement list."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from portal.embedded import services, site, state, supervisor
from portal.embedded.process import ProcessFailed, Program, Running, rotate_log
from portal.embedded.requirements import requirements

IGNORES_SIGTERM = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    state.ensure_data_dir(tmp_path / "data")
    return tmp_path / "data"


def python(code: str, **changes) -> Program:
    return Program(name="child", argv=(sys.executable, "-c", code), cwd=Path("/"), env=dict(os.environ), **changes)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def listening(port: int) -> socket.socket:
    server = socket.create_server((state.LOOPBACK, port))
    server.listen()
    return server


def test_secrets_are_made_once_and_private(data_dir):
    first = state.read_secrets(data_dir)

    assert state.read_secrets(data_dir) == first
    assert (data_dir / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in data_dir.iterdir()) == ["logs", "run", "secrets.json"]
    assert len(set(json.loads((data_dir / "secrets.json").read_text()).values())) == 8


def test_a_secret_that_a_later_release_needs_is_added_to_those_that_are_there(data_dir):
    first = state.read_secrets(data_dir)
    path = data_dir / "secrets.json"
    path.write_text(json.dumps({key: value for key, value in vars(first).items() if key != "postgres_app_password"}))
    second = state.read_secrets(data_dir)
    assert {key for key, value in vars(second).items() if value != getattr(first, key)} == {"postgres_app_password"}
    assert state.read_secrets(data_dir) == second


def test_two_data_folders_share_no_secret(tmp_path):
    for name in ("one", "two"):
        state.ensure_data_dir(tmp_path / name)
    one, two = (json.loads(json.dumps(vars(state.read_secrets(tmp_path / name)))) for name in ("one", "two"))

    assert set(one.values()) & set(two.values()) == set()


def test_a_busy_port_is_stepped_around_and_the_choice_remembered(data_dir, monkeypatch):
    start = state.choose_ports(data_dir, ["web"])["web"]
    with closing(listening(start)):
        moved = state.choose_ports(data_dir, ["web"])["web"]

    assert moved != start
    assert state.choose_ports(data_dir, ["web"]) == {
        "web": moved
    }  # the first is free again, and the last choice is kept


def test_no_two_names_get_one_port(data_dir, monkeypatch):
    monkeypatch.setattr(state, "PREFERRED_PORTS", {"web": 21000, "live": 21000, "s3": 21000})

    assert len(set(state.choose_ports(data_dir, ["web", "live", "s3"]).values())) == 3


def test_a_range_of_busy_ports_is_an_error_with_a_sentence(data_dir, monkeypatch):
    monkeypatch.setattr(state, "is_free", lambda port: False)

    with pytest.raises(state.NoFreePort, match=r"^No free port between 8000 and 8199 on 127\.0\.0\.1\.$"):
        state.choose_ports(data_dir, ["web"])


def test_a_child_that_ignores_the_signal_is_killed(data_dir):
    running = Running(python(IGNORES_SIGTERM, stop_steps=((signal.SIGTERM, 0.2),)), data_dir)
    wait_until(lambda: running.log.read_text() == "ready\n")

    running.stop()

    assert running.popen.returncode == -signal.SIGKILL
    assert list((data_dir / "run").iterdir()) == []


def test_a_child_that_obeys_is_not_killed(data_dir):
    running = Running(python("import time; time.sleep(600)"), data_dir)

    running.stop()

    assert running.popen.returncode == -signal.SIGTERM


def test_stopping_a_child_ends_its_own_children(data_dir):
    code = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    running = Running(python(code), data_dir)
    wait_until(lambda: running.log.read_text().endswith("\n"))

    running.stop()

    grandchild = int(running.log.read_text())
    wait_until(lambda: is_gone(grandchild))
    assert is_gone(grandchild)


def test_a_child_that_ends_instead_of_answering_is_reported_with_its_log(data_dir):
    running = Running(python("print('no such file'); raise SystemExit(3)"), data_dir)

    def never() -> None:
        raise ConnectionError

    with pytest.raises(ProcessFailed) as failure:
        running.wait_ready(never, timeout_seconds=20)
    assert str(failure.value) == "child ended with status 3:\nno such file"


def test_a_child_that_never_answers_is_reported_with_the_last_error(data_dir):
    running = Running(python("import time; time.sleep(600)"), data_dir)

    def refuse() -> None:
        raise ConnectionError("refused")

    with pytest.raises(ProcessFailed) as failure:
        running.wait_ready(refuse, timeout_seconds=0.1)
    running.stop()
    assert str(failure.value) == "child did not answer within 0 s (refused):\n"


def test_children_die_when_the_supervisor_is_killed(data_dir):
    code = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from portal.embedded.process import Program, Running;"
        "p = Program(name='c', argv=('sleep', '600'), cwd=Path('/'), env={'PATH': '/usr/bin:/bin'});"
        "print(Running(p, Path(sys.argv[1])).popen.pid, flush=True); time.sleep(600)"
    )
    arguments = [sys.executable, "-c", code, str(data_dir), str(state.REPOSITORY)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert not is_gone(child)
        parent.kill()
    wait_until(lambda: is_gone(child))


def test_a_start_waits_for_the_process_of_a_killed_supervisor(data_dir):
    first = Running(python("import time; time.sleep(0.5)"), data_dir)

    second = Running(python("import time; time.sleep(600)"), data_dir)

    assert first.popen.poll() == 0
    second.stop()


def test_the_log_of_the_previous_run_is_kept(data_dir):
    (data_dir / "logs" / "web.log").write_text("yesterday")

    rotate_log(data_dir, "web")

    assert {path.name: path.read_text() for path in (data_dir / "logs").iterdir()} == {"web.log.1": "yesterday"}


def test_a_second_supervisor_says_where_the_first_runs(data_dir):
    with supervisor.only_one(data_dir):
        supervisor.say_where(data_dir, "http://127.0.0.1:8000")

        with pytest.raises(supervisor.AlreadyRunning) as refusal, supervisor.only_one(data_dir):
            pass

    assert str(refusal.value) == f"The portal is already running at http://127.0.0.1:8000 (data folder {data_dir})."


def test_the_lock_is_free_after_the_first_supervisor_ended(data_dir):
    entered = []
    for number in (1, 2):
        with supervisor.only_one(data_dir):
            entered.append(number)
    assert entered == [1, 2]


def test_back_off_doubles_to_a_minute_and_starts_over_after_a_calm_minute(data_dir, capsys):
    running = Running(python("pass"), data_dir)
    child = supervisor.Supervised(running)
    delays = []
    for _ in range(8):
        supervisor.plan_restart(child, running.started_at)
        delays.append(child.restart_at - running.started_at)
    supervisor.plan_restart(child, running.started_at + 61)

    assert [round(delay, 6) for delay in delays] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert child.back_off_seconds == 2
    assert len(capsys.readouterr().out.splitlines()) == 9


def test_environment_lines_survive_a_shell():
    value = 'it\'s $HOME; "x"'
    lines = services.export_lines({"VALUE": value})

    shell = subprocess.run(["sh", "-c", f'{lines}printf %s "$VALUE"'], capture_output=True, text=True, check=True)

    assert shell.stdout == value


def test_a_sample_folder_that_is_missing_is_refused(tmp_path):
    with pytest.raises(site.NoSuchSample) as refusal:
        site.sample_dir(str(tmp_path / "photos"))
    assert str(refusal.value) == f"SAMPLE={tmp_path / 'photos'} is not a folder."


@pytest.mark.parametrize(
    ("head", "missing"),
    [
        (None, "file, source, country, patient_group, dr_any, glaucoma, amd, split"),
        ("file,patient_group,dr_grade,split", "source, country, dr_any, glaucoma, amd"),
    ],
)
def test_a_sample_without_what_the_demonstration_reads_is_refused(tmp_path, head, missing):
    """Else it would draw phantoms in silence, or stop half way."""
    if head:
        (tmp_path / "labels.csv").write_text(f"{head}\n")
    with pytest.raises(site.NoSuchSample) as refusal:
        site.sample_dir(str(tmp_path))
    assert str(refusal.value) == f"SAMPLE={tmp_path}: its labels.csv needs these columns, too: {missing}."


def test_a_sample_folder_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "labels.csv").write_text(f"{','.join(site.SAMPLE_COLUMNS)},camera\n")

    assert site.sample_dir("photos") == str(tmp_path / "photos")
    assert site.sample_dir("") == ""


def test_every_requirement_is_pinned():
    lines = (state.REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    asked = requirements(state.REPOSITORY / "pyproject.toml")
    names = {line.split("[")[0].split(">")[0].split("=")[0].split("<")[0].lower().replace("_", "-") for line in asked}

    assert names - pinned == set()


ADOPTING = """
import subprocess, sys, time, psutil
from portal.embedded.process import adopt_orphans, reap_orphans
adopt_orphans()
own = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
parent = subprocess.Popen(["sh", "-c", "sleep 0.2 & exec true"])
while psutil.Process(own.pid).status() != psutil.STATUS_ZOMBIE:
    time.sleep(0.01)
parent.wait()
reap_orphans({own.pid})
assert own.poll() == 7, own.returncode
deadline = time.monotonic() + 20
while psutil.Process().children() and time.monotonic() < deadline:
    reap_orphans(set())
    time.sleep(0.01)
assert psutil.Process().children() == []
"""


def test_adopted_children_are_waited_for_and_our_own_are_left_to_who_started_them():
    done = subprocess.run([sys.executable, "-c", ADOPTING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
