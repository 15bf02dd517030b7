"""The recipes in deploy/ are well formed and start the programs that the site has."""

import configparser
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from django.conf import settings

DEPLOY = settings.BASE_DIR / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
PARTS = {"web", "live", "worker-cpu", "worker-gpu", "sweep", "beat"}


def words_of(command: str) -> list[str]:
    return shlex.split(command.replace("%%", "%"))


def commands() -> dict[str, dict[str, list[str]]]:
    """Return the command of each part, as systemd and as compose have it."""
    units = {}
    for path in UNITS:
        unit = configparser.RawConfigParser(strict=False)
        unit.read(path)
        units[path.stem.removeprefix("portal-")] = words_of(unit["Service"]["execstart"])
    services = COMPOSE["services"].items()
    return {"systemd": units, "compose": {name: words_of(s["command"]) for name, s in services if name in PARTS}}


@pytest.mark.parametrize("recipe", ["systemd", "compose"])
def test_each_part_has_its_program(recipe):
    found = commands()[recipe]
    assert set(found) == PARTS
    assert {name: Path(words[0]).name for name, words in found.items()} == {
        name: "granian" if name in {"web", "live"} else "celery" for name in PARTS
    }


@pytest.mark.parametrize("recipe", ["systemd", "compose"])
def test_every_queue_has_a_worker_with_a_name_of_its_own(recipe):
    found = {name: words for name, words in commands()[recipe].items() if "worker" in words}
    queues = {words[words.index("-Q") + 1]: words[words.index("-n") + 1] for words in found.values()}
    assert queues == {"cpu": "cpu@%h", "gpu": "gpu@%h", "sweep": "sweep@%h"}


def test_every_unit_is_started_again_and_installed():
    for path in UNITS:
        unit = configparser.RawConfigParser(strict=False)
        unit.read(path)
        assert (unit["Service"]["restart"], unit["Install"]["wantedby"]) == ("always", "multi-user.target")


def test_the_services_of_the_recipe_are_those_that_parts_wait_for():
    on_request = {name for name, service in COMPOSE["services"].items() if "profiles" in service}
    assert on_request == {"clamav"}
    services = set(COMPOSE["services"]) - PARTS - on_request
    assert services == {"postgres", "valkey", "store"} == set(COMPOSE["x-portal"]["depends_on"])


def test_several_processes_of_the_pages_count_together():
    """Else /metrics tells what the one process that answers has counted."""
    unit = configparser.RawConfigParser(strict=False)
    unit.read(DEPLOY / "systemd" / "portal-web.service")
    folder = f"/run/{unit['Service']['runtimedirectory']}"
    assert unit["Service"]["environment"] == f"PROMETHEUS_MULTIPROC_DIR={folder}"
    web = COMPOSE["services"]["web"]
    assert web["environment"]["PROMETHEUS_MULTIPROC_DIR"] == web["tmpfs"]


def test_the_pages_have_the_files_that_collectstatic_wrote():
    assert {name: COMPOSE["services"][name]["volumes"] for name in PARTS} == dict.fromkeys(
        PARTS, ["cache:/var/lib/portal"]
    )


def test_the_pages_are_asked_by_the_name_that_they_answer_to(monkeypatch):
    """Django refuses a host that is not in ALLOWED_HOSTS, 127.0.0.1 among them."""
    asked = []
    monkeypatch.setenv("ALLOWED_HOSTS", "portal.example.org,other.example.org")
    monkeypatch.setattr("urllib.request.urlopen", asked.append)
    *_, program = COMPOSE["services"]["web"]["healthcheck"]["test"]
    exec(program, {})
    assert [(request.full_url, request.get_header("Host")) for request in asked] == [
        ("http://127.0.0.1:8000/readyz", "portal.example.org")
    ]


def test_the_store_of_the_recipe_asks_for_keys_and_can_be_reached():
    store = COMPOSE["services"]["store"]
    assert (store["env_file"], store["ports"]) == ("store.env", ["127.0.0.1:8333:8333"])


def test_the_store_of_the_recipe_removes_no_upload_by_itself():
    """SeaweedFS would, after 24 hours; the portal takes one up again for seven days and then announces its end."""
    [mounted] = [volume for volume in COMPOSE["services"]["store"]["volumes"] if volume.startswith("./")]
    source, target, mode = mounted.split(":")
    assert (target, mode) == ("/etc/seaweedfs/master.toml", "ro")
    assert tomllib.loads((DEPLOY / source).read_text()) == {"master": {"maintenance": {"scripts": ""}}}
