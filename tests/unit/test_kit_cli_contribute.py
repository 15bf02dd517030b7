"""The commands `contribute` and `status`: what is sent, what is refused before anything is, how it ends."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from jobs.kit import cli, cli_portal, generator
from tests import loopback

pytestmark = pytest.mark.usefixtures("nobody_signed_in")
FAILED = {"number": 5, "name": "numerics", "verdict": "fail", "sentence": "3 numbers are NaN.", "fix": "Train again."}


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "training_card.json"
    path.write_text(json.dumps({"images": 20, "base": {"slug": "fundus-64"}}))
    return path


@pytest.fixture
def contribute(weights, card):
    def _contribute(*more: str, unsigned: bool = True) -> int:
        given = ["--institution", "moi-eye-clinic", "--title", "Weights of 2026", "--card", str(card)]
        given += ["--unsigned"] if unsigned else []
        return cli.main(["contribute", "weights", str(weights), *given, *more])

    return _contribute


# contribute and status


def test_contribute_uploads_submits_and_follows_until_review(site, contribute, weights, capsys):
    assert contribute() == 0
    row = site.contributions[1]
    assert (row["institution"], row["base_model"], row["kind"]) == ("moi-eye-clinic", "fundus-64", "weights")
    assert row["training_card"] == {"images": 20, "base": {"slug": "fundus-64"}}
    assert hashlib.sha256(site.parts[1]).hexdigest() == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert capsys.readouterr().out.splitlines() == [
        "pass  1 container: Well formed.",
        "Contribution 1 (Weights of 2026): review",
        f"{site.portal_url}/contributions/1/",
    ]


def test_no_small_count_leaves_the_site(site, contribute, card):
    small = {"cameras": {"Topcon": "7"}, "labels": {"eyes": {"PDR": 4}}, "exclusions": {"eyes": 3}, "sites": {"A": 8}}
    card.write_text(json.dumps({"images": 3, "demographics": {}, "steps": 7, **small}))
    assert contribute() == 0
    assert site.contributions[1]["training_card"] == {
        "images": "<10", "demographics": "unknown", "steps": 7, "cameras": {"Topcon": "<10"},
        "labels": {"eyes": {"PDR": "<10"}}, "exclusions": {"eyes": "<10"}, "sites": {"A": "<10"},
    }  # fmt: skip


def test_a_card_that_the_portal_would_refuse_is_not_sent(site, contribute, card, capsys):
    card.write_text(json.dumps({"images": 20, "demographics": "female: 7"}))
    assert (contribute(), site.contributions, site.seen) == (1, {}, [])
    told = "Demographics is 7: a group this small can point at people. Write <10 instead."
    assert capsys.readouterr().err == f"Error: {told} Correct {card}; nothing was sent.\n"


def test_the_folder_of_a_base_is_named_by_its_slug(site, contribute):
    assert contribute("--base", str(generator.__file__).replace("generator.py", "base/fundus-64")) == 0
    assert site.contributions[1]["base_model"] == "fundus-64"


def test_a_draft_on_a_later_page_of_the_list_is_found(site, contribute, monkeypatch):
    site.faults["POST contributions/1/submit"] = ["agreement_required"]
    assert contribute() == 2
    site.page_size = 1
    site.contributions[2] = {**site.contributions[1], "id": 2, "title": "Another"}
    assert contribute() == 0
    assert [row["status"] for row in site.contributions.values()] == ["review", "draft"]


def test_what_a_portal_says_moves_nothing_on_the_terminal(site, contribute, capsys):
    site.checks = [{**FAILED, "sentence": "\x1b[2JCleared\x07."}]
    site.answers = {"title": "\x1b]0;x\x07", "reason": "\x9b1A"}
    assert contribute() == 0
    assert capsys.readouterr().out.splitlines()[:4] == [
        "fail  5 numerics: \ufffd[2JCleared\ufffd.",
        "      Train again.",
        "Contribution 1 (\ufffd]0;x\ufffd): review",
        "\ufffd1A",
    ]


def test_contribute_tells_the_reason_and_ends_with_2_when_it_is_returned(site, contribute, capsys):
    site.checks, site.final_status = [], "returned"
    site.answers = {"reason": "Which camera?"}
    assert contribute() == 2
    assert capsys.readouterr().out.splitlines()[:2] == ["Contribution 1 (Weights of 2026): returned", "Which camera?"]


@pytest.mark.parametrize("why", [{"stalled_at": "2026-11-30T12:00:00Z"}, {"isolation": {"id": 1}}])
def test_contribute_ends_with_3_when_the_checks_wait_for_the_consortium(site, contribute, capsys, why):
    site.final_status, site.answers = "submitted", why
    assert contribute() == 3
    assert cli.main(["status", "1"]) == 3
    assert capsys.readouterr().err.splitlines()[-1] == (
        "Its checks wait for the consortium; nothing is asked of you. The page tells why."
    )


def test_contribute_ends_with_2_when_the_checks_fail(site, contribute, capsys):
    site.checks, site.final_status = [*site.checks, FAILED], "rejected"
    assert contribute() == 2
    assert capsys.readouterr().out.splitlines() == [
        "pass  1 container: Well formed.",
        "fail  5 numerics: 3 numbers are NaN.",
        "      Train again.",
        "Contribution 1 (Weights of 2026): rejected",
        f"{site.portal_url}/contributions/1/",
    ]


def test_contribute_without_waiting_prints_one_json_document(site, contribute, capsys):
    assert contribute("--no-wait", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["id"], shown["status"], shown["url"]) == (1, "submitted", f"{site.portal_url}/contributions/1/")


def test_contribute_goes_on_with_its_own_draft(site, contribute):
    site.faults["POST contributions/1/submit"] = ["agreement_required"]
    assert contribute() == 2
    sent = len(site.seen)
    assert contribute() == 0
    assert (sorted(site.contributions), len(site.seen)) == ([1], sent)


def test_contribute_says_where_to_sign_and_that_the_file_is_kept(site, contribute, capsys):
    site.faults["POST contributions/1/submit"] = ["agreement_required"]
    assert contribute() == 2
    assert capsys.readouterr().err.splitlines()[-2:] == [
        f"What you send is uploaded and kept in draft 1: {site.portal_url}/contributions/1/",
        f"Error: Refused for a test. Go on at {site.portal_url}/agreement_required/",
    ]


def test_contribute_leaves_other_drafts_alone(site, contribute):
    other = {"status": "draft", "kind": "weights", "institution": "moi-eye-clinic", "base_model": "fundus-64"}
    site.contributions[1] = {**other, "id": 1, "title": "Another", "files": []}
    site.contributions[2] = {**other, "id": 2, "title": "Weights of 2026", "files": [{"parts_sha256": "0" * 64}]}
    assert contribute() == 0
    assert [row["status"] for row in site.contributions.values()] == ["draft", "draft", "review"]


def test_a_title_with_blanks_around_it_is_found_again(site, contribute):
    site.faults["POST contributions/1/submit"] = ["agreement_required"]
    assert contribute("--title", " Weights of 2026 ") == 2
    assert contribute("--title", " Weights of 2026 ") == 0
    assert [(row["title"], row["status"]) for row in site.contributions.values()] == [("Weights of 2026", "review")]


BEGUN = {
    "id": 1, "kind": "weights", "institution": "moi-eye-clinic", "base_model": "fundus-64", "status": "draft",
    "title": "Begun in the browser", "files": [], "checks": [], "url": "/contributions/1/",
}  # fmt: skip


def test_contribute_resumes_the_draft_it_is_told(site, contribute):
    site.contributions[1] = draft = BEGUN | {"files": []}
    assert contribute("--resume", "1") == 0
    assert (draft["title"], draft["status"], len(site.contributions)) == ("Weights of 2026", "review", 1)


def test_contribute_that_was_submitted_before_is_only_followed(site, contribute):
    assert contribute("--no-wait") == 0
    sent = len(site.seen)
    assert contribute("--resume", "1") == 0
    assert (len(site.seen), site.contributions[1]["status"]) == (sent, "review")


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"kind": "synthetic"}, "is of the kind synthetic, and what you send is of weights"),
        ({"institution": "b"}, "is of the institution b, and what you send is of moi-eye-clinic"),
        ({"base_model": "large"}, "is of the base model large, and what you send is of fundus-64"),
        ({"status": "approved"}, "was submitted before, with other files than these"),
    ],
)
def test_contribute_goes_on_with_no_other_than_it_sends(site, contribute, capsys, other, what):
    site.contributions[1] = BEGUN | other
    assert (contribute("--resume", "1"), site.seen, site.contributions[1]) == (1, [], BEGUN | other)
    assert f"Error: Contribution 1 {what}. Nothing is sent." in capsys.readouterr().err


@pytest.mark.parametrize("begun", [None, {"status": "draft", "files": []}])
def test_contribute_that_ended_while_it_waited_is_followed_and_not_sent_twice(site, contribute, capsys, begun):
    assert contribute("--no-wait") == 0  # as Ctrl-C, or a network that is gone, ends the wait for the checks
    if begun:  # an older kit began the same again
        site.contributions[2] = {**site.contributions[1], "id": 2, **begun}
    sent = len(site.seen)
    assert contribute() == 0
    assert (len(site.contributions), len(site.seen)) == (2 if begun else 1, sent)
    assert "Contribution 1 was submitted before: nothing is sent again." in capsys.readouterr().err.splitlines()


def test_contribute_sends_what_was_refused_again_as_another(site, contribute):
    assert contribute("--no-wait") == 0
    site.contributions[1]["status"] = "rejected"
    assert contribute() == 0
    assert [row["status"] for row in site.contributions.values()] == ["rejected", "review"]


def test_contribute_finds_out_whether_a_lost_submission_arrived(site, contribute):
    """The connection breaks while submitting: the draft is still a draft, which is the platform's fault."""
    site.faults["POST contributions/1/submit"] = ["break"]
    assert contribute() == 3
    assert site.contributions[1]["status"] == "draft"


def test_contribute_refuses_a_card_that_is_none(site, contribute, card, capsys):
    card.write_text("[]")
    assert contribute() == 1
    assert capsys.readouterr().err.startswith(f"Error: {card} is no JSON document of the kit.")
    assert site.called == []


@pytest.mark.parametrize(
    "value", ["NaN", "-Infinity", "9" * 5000, "[" * 10**5 + "]" * 10**5], ids=["nan", "infinity", "digits", "depth"]
)
def test_contribute_refuses_a_card_with_what_no_portal_reads(site, contribute, card, capsys, value):
    card.write_text(f'{{"images": {value}}}')
    assert contribute("--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "document_invalid"
    assert site.called == []


def test_a_card_that_names_its_base_in_a_word_is_read(site, contribute, card):
    card.write_text('{"images": 20, "base": "fundus-64"}')
    assert contribute() == 0


def test_contribute_to_a_portal_that_is_down_is_a_platform_fault(site, contribute, monkeypatch):
    with loopback.serve() as gone:
        monkeypatch.setenv("CONSORTIUM_URL", gone.portal_url)
    monkeypatch.setattr(cli_portal.client, "RETRIES", 0)
    assert contribute() == 3


@pytest.mark.parametrize(
    ("state", "exit_status"), [("draft", 0), ("review", 0), ("approved", 0), ("rejected", 2), ("withdrawn", 2)]
)
def test_status_ends_by_where_the_contribution_stands(site, state, exit_status, capsys):
    site.contributions[3] = {"id": 3, "title": "T", "status": state, "checks": site.checks, "url": "/contributions/3/"}
    assert cli.main(["status", "3"]) == exit_status
    assert cli.main(["status", "3", "--watch"]) == exit_status
    once = ["pass  1 container: Well formed.", f"Contribution 3 (T): {state}", f"{site.portal_url}/contributions/3/"]
    assert capsys.readouterr().out.splitlines() == once * 2


def test_status_of_another_ones_contribution_is_not_found(site, capsys):
    assert cli.main(["status", "99", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "not_found"


# What is refused before anything is sent


@pytest.mark.parametrize("base", ["fundus-64", "a-base-of-the-portal"])
def test_contribute_refuses_what_is_no_weights_file_before_anybody_signs_in(site, contribute, weights, base, capsys):
    Image.new("RGB", (80, 80)).save(weights, format="PNG")
    assert contribute("--base", base, "--json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "header_too_large"
    assert site.called == []


def test_contribute_refuses_weights_of_another_shape(site, contribute, weights, capsys):
    save_file({"weight": np.ones(4, np.float16)}, weights)
    assert contribute("--json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "other_architecture"
    assert site.called == []
    assert contribute("--base", "a-base-of-the-portal") == 0


def test_contribute_without_a_key_asks_before_anything_is_sent(site, contribute, capsys):
    assert contribute("--json", unsigned=False) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], site.called) == ("key_missing", [])
    assert error["fix"].endswith("Or add --unsigned: the portal may ask for the signature later.")


def test_a_key_that_is_named_but_missing_is_no_reason_to_send_unsigned(site, contribute, tmp_path, monkeypatch, capsys):
    assert cli.main(["keys", "new"]) == 0
    capsys.readouterr()
    monkeypatch.setenv("CONSORTIUM_KEY", str(tmp_path / "mistyped.pem"))
    assert contribute("--json", unsigned=False) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "key_missing"
    assert site.called == []


# An embargo


def test_contribute_says_from_when_on_it_may_be_used(site, contribute):
    assert contribute("--embargo-until", "2099-03-01") == 0
    assert site.contributions[1]["embargo_until"] == "2099-03-01"


def test_contribute_without_an_embargo_leaves_that_of_the_draft(site, contribute):
    site.faults["POST contributions/1/submit"] = ["agreement_required"]
    assert contribute("--embargo-until", "2099-03-01") == 2
    assert contribute() == 0
    assert (sorted(site.contributions), site.contributions[1]["embargo_until"]) == ([1], "2099-03-01")


def test_contribute_changes_the_embargo_of_its_draft(site, contribute):
    site.faults["POST contributions/1/submit"] = ["agreement_required"]
    assert contribute() == 2
    assert "embargo_until" not in site.contributions[1]
    assert contribute("--embargo-until", "2099-03-01") == 0
    assert (sorted(site.contributions), site.contributions[1]["embargo_until"]) == ([1], "2099-03-01")


@pytest.mark.parametrize(
    ("day", "why"),
    [
        ("2020-03-01", "An embargo ends on a day that is to come. Give a later one, or leave it out."),
        ("1.3.2099", "1.3.2099 is no day. Write it as YYYY-MM-DD, such as 2027-03-01."),
    ],
)
def test_contribute_refuses_a_day_before_it_asks_the_portal(site, contribute, capsys, day, why):
    assert contribute("--embargo-until", day) == 64
    assert capsys.readouterr().err.splitlines()[-1] == f"Error: Invalid value for '--embargo-until': {why}"
    assert site.called == []


def test_contribute_sends_nothing_where_the_embargo_is_not_kept(site, contribute, capsys):
    """As an older portal would, which knows of no embargo; or the contribution is submitted already."""
    assert contribute("--no-wait") == 0
    sent = len(site.seen)
    assert contribute("--embargo-until", "2099-03-01", "--resume", "1") == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "Error: Contribution 1 is not kept from use until 2099-03-01: the portal says that it is under no embargo. "
        "Nothing more is sent. Look at its page; if the portal offers no embargo, ask its operators before you send."
    )
    assert len(site.seen) == sent
