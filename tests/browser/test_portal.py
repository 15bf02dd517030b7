"""What `make run` starts, told without a browser; tests/running_portal.py sees to it that it leaves no process."""

import pytest
import urllib3

from portal.embedded import site

pytestmark = pytest.mark.browser  # for the portal of these


def test_the_whole_portal_answers_where_it_says_and_each_part_has_a_log(portal):
    assert portal.url == site.environment(portal.data_dir, "")["PORTAL_URL"]
    assert "Ctrl-C stops everything." in (portal.data_dir / "supervisor.log").read_text()
    answer = urllib3.request("GET", f"{portal.url}/healthz", retries=False)
    assert (answer.status, answer.json()) == (200, {"status": "ok"})
    names = {path.stem for path in (portal.data_dir / "logs").iterdir()}
    assert names >= {"web", "live", "worker-cpu", "worker-gpu", "beat", "postgres", "valkey", "seaweedfs"}
