"""The browser's upload against the real object store: parts, pause, reload, signing in again, refusals."""

import os
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from contributions import services, uploads
from portal import storage
from portal.programmes import services as programmes
from portal.programmes.models import BaseModel
from tests import contributing
from tests.contributing import sha256_hex

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
CONTENT = os.urandom(2 * storage.PART_SIZE_BYTES + 1000)  # three parts


@pytest.fixture
def draft(institution, programme, steward):
    return contributing.draft(institution, contributing.registered_base(programme), by=steward)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def page(page_for, draft, steward):
    """The upload page of the draft, opened by its steward."""
    return page_for(steward, f"/contributions/{draft.pk}/files/")


def part(page, name: str):
    return page.locator(f'[data-part="{name}"]')


def choose(page, path) -> None:
    page.locator("#upload-file").set_input_files(path)


def arrived(draft) -> bytes:
    file = draft.files.get()
    assert (file.state, file.sha256) == ("uploaded", sha256_hex(CONTENT))
    return storage.get(storage.QUARANTINE, file.storage_key)


def test_a_file_arrives_whole(page, draft, weights):
    choose(page, weights)
    expect(page.get_by_role("heading", name="The file has arrived")).to_be_visible()
    assert arrived(draft) == CONTENT


def put_of(number: int):
    """Return a test for the store's answer to a part."""
    return lambda answer: answer.request.method == "PUT" and f"partNumber={number}&" in answer.url


def test_after_a_reload_only_what_is_missing_is_sent(page, draft, weights):
    page.context.route("**/*partNumber=3&*", lambda route: route.abort())
    with page.expect_response(put_of(1)), page.expect_response(put_of(2)):
        choose(page, weights)
    expect(part(page, "numbers")).to_contain_text("32.0 MiB of 32.0 MiB")
    expect(part(page, "phase")).to_contain_text("Trying again by itself")
    page.on("dialog", lambda dialog: dialog.accept())  # leaving while it sends asks first
    page.reload()
    expect(page.get_by_text("2 of 3 parts (32.0 MiB in all) have arrived")).to_be_visible()
    page.context.unroute("**/*partNumber=3&*")
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    choose(page, weights)
    expect(page.get_by_role("heading", name="The file has arrived")).to_be_visible()
    assert (len(sent), "partNumber=3&" in sent[0]) == (1, True)
    assert arrived(draft) == CONTENT


def test_who_sends_what_a_colleague_removes_meanwhile_is_told_and_sends_it_anew(page, draft, weights, steward):
    page.context.route("**/*partNumber=*", lambda route: route.abort())
    choose(page, weights)
    expect(part(page, "phase")).to_contain_text("Trying again by itself")
    uploads.remove_file(draft.files.get(), by=steward)
    page.context.unroute("**/*partNumber=*")
    expect(part(page, "problem")).to_contain_text("The file was removed from this draft while it was sent")
    choose(page, weights)
    expect(page.get_by_role("heading", name="The file has arrived")).to_be_visible()
    assert arrived(draft) == CONTENT


def test_pause_and_resume(page, draft, weights):
    page.context.route("**/*partNumber=*", lambda route: route.abort())
    choose(page, weights)
    expect(part(page, "phase")).to_contain_text("Trying again by itself")
    part(page, "pause").click()
    expect(part(page, "resume")).to_be_focused()
    page.context.unroute("**/*partNumber=*")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="The file has arrived")).to_be_visible()
    assert arrived(draft) == CONTENT


def test_who_is_signed_out_signs_in_again_and_resumes(page, draft, weights, steward, sign_in):
    cookies = page.context.cookies()
    page.context.clear_cookies()
    choose(page, weights)
    expect(part(page, "problem")).to_contain_text("You were signed out. Sign in in a new window")
    page.context.add_cookies(cookies)
    part(page, "resume").click()
    expect(page.get_by_role("heading", name="The file has arrived")).to_be_visible()
    assert arrived(draft) == CONTENT


def test_a_hash_that_fails_while_the_parts_are_sent_ends_the_sending(page, draft, weights):
    """The second of two workers hashes the whole; without its answer nothing is completed, and it goes on later."""
    asked = []

    def only_the_first(route):
        asked.append(route.request.url)
        return route.continue_() if len(asked) == 1 else route.abort()

    page.context.route("**/upload-worker*.js", only_the_first)
    choose(page, weights)
    expect(part(page, "problem")).to_contain_text("This browser cannot compute the SHA-256.")
    assert [(file.state, file.sha256) for file in draft.files.all()] == [("uploading", "")]
    page.context.unroute("**/upload-worker*.js")
    choose(page, weights)
    expect(page.get_by_role("heading", name="The file has arrived")).to_be_visible()
    assert arrived(draft) == CONTENT


def try_in_vain(page, weights) -> None:
    """Let part 1 fail until it is given up, while the others are on their way for ever; time is the test's own."""
    page.clock.install()
    page.clock.pause_at(timezone.now() + timedelta(seconds=60))
    page.context.route("**/*partNumber=1&*", lambda route: route.abort())
    page.context.route("**/*partNumber={2,3}&*", lambda route: None)
    choose(page, weights)
    for attempt in range(1, 9):
        expect(part(page, "phase")).to_contain_text(f"Trying again by itself ({attempt} of 8)")
        page.clock.run_for(30_000)


def test_a_lane_that_gives_up_ends_the_others_at_once(page, draft, weights):
    """Time stands still but for the retries of part 1: nothing waits once more for its own."""
    try_in_vain(page, weights)
    expect(part(page, "problem")).to_contain_text("The link is down.")
    expect(part(page, "resume")).to_be_visible()
    page.context.unroute_all(behavior="ignoreErrors")
    part(page, "resume").click()
    expect(page.get_by_role("heading", name="The file has arrived")).to_be_visible()
    assert arrived(draft) == CONTENT


def test_a_file_that_changes_after_its_parts_were_sent_is_not_completed(page, draft, weights):
    """Its time stays as it was, so that the browser does not notice: the second reading does."""
    asked, held = [], []

    def hold_the_second(route):
        asked.append(route.request.url)
        return route.continue_() if len(asked) == 1 else held.append(route)

    page.context.route("**/upload-worker*.js", hold_the_second)
    with page.expect_response(put_of(1)), page.expect_response(put_of(2)), page.expect_response(put_of(3)):
        choose(page, weights)
    before = weights.stat()
    with weights.open("r+b") as file:
        file.write(bytes(1000))
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    held[0].continue_()
    expect(part(page, "problem")).to_contain_text("The file changed while it was sent.")
    assert [(file.state, file.sha256) for file in draft.files.all()] == [("uploading", "")]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("model.pth", b"x", "model.pth is a pickled checkpoint"),
        ("weights.zip", b"x", "weights.zip is not a .safetensors file"),
        ("weights.safetensors", b"", "weights.safetensors is empty (0 bytes)"),
    ],
)
def test_what_cannot_pass_is_explained_at_once(page, draft, tmp_path, name, content, sentence):
    path = tmp_path / name
    path.write_bytes(content)
    choose(page, path)
    expect(part(page, "problem")).to_contain_text(sentence)
    expect(part(page, "convert")).to_be_visible(visible=name == "model.pth")
    assert draft.files.count() == 0


def test_another_file_beside_the_first_is_refused(page, draft, weights, steward):
    contributing.announce(draft, b"first", by=steward, name="first.safetensors")
    choose(page, weights)
    expect(part(page, "problem")).to_contain_text("first.safetensors is there already. Remove it first")
    assert [file.name for file in draft.files.all()] == ["first.safetensors"]


def test_a_file_begun_elsewhere_is_continued_here(page, draft, weights, steward):
    file = contributing.announce(draft, CONTENT, by=steward)
    contributing.send(file, CONTENT, by=steward, numbers=[1, 2])
    choose(page, weights)
    expect(page.get_by_role("heading", name="The file has arrived")).to_be_visible()
    assert (arrived(draft) == CONTENT, services.parts_uploaded(draft.files.get())) == (True, [1, 2, 3])


def test_a_file_that_another_window_sent_meanwhile_has_arrived_here_too(page, draft, weights, steward):
    def meanwhile(route):
        contributing.upload(draft, CONTENT, by=steward)
        route.continue_()

    page.context.route("**/files/*/parts", meanwhile, times=1)
    choose(page, weights)
    expect(page.get_by_role("heading", name="The file has arrived")).to_be_visible()
    assert arrived(draft) == CONTENT


def test_the_page_of_a_proxy_is_an_interruption(page, draft, weights):
    """A hospital's proxy answers 200 with a page of its own, to sign in there."""
    page.context.route("**/files", lambda route: route.fulfill(body="<html>", content_type="text/html"), times=1)
    choose(page, weights)
    expect(part(page, "phase")).to_contain_text("Trying again by itself (1 of 8)")
    expect(page.get_by_role("heading", name="The file has arrived")).to_be_visible()
    assert arrived(draft) == CONTENT


def test_an_upload_goes_on_by_itself_when_the_server_is_back(page, draft, weights):
    """The browser has been on line all the time, so it does not say so."""
    try_in_vain(page, weights)
    expect(part(page, "problem")).to_contain_text("The upload goes on by itself when it is back")
    page.context.unroute_all(behavior="ignoreErrors")
    page.clock.run_for(60_000)
    expect(page.get_by_role("heading", name="The file has arrived")).to_be_visible()
    assert arrived(draft) == CONTENT


def test_the_next_of_several_files_leaves_the_focus_where_it_is(page, draft, institution, steward, tmp_path):
    programmes.change(draft.programme, kinds=["weights", "synthetic"], by=None)
    several = contributing.draft(institution, BaseModel.objects.get(), by=steward, kind="synthetic")
    page.goto(f"/contributions/{several.pk}/files/")
    shards = [tmp_path / f"synthetic-0000{number}.tar" for number in range(2)]
    for number, shard in enumerate(shards):
        shard.write_bytes(b"shard %d" % number)
    page.context.route("**/complete", lambda route: None)  # on its way for ever
    choose(page, shards)
    expect(part(page, "phase")).to_have_text("The parts have arrived and are being joined")
    expect(part(page, "pause")).to_be_focused()
    elsewhere = page.get_by_role("link", name="Back to the training card")
    elsewhere.focus()
    page.context.unroute_all(behavior="ignoreErrors")
    part(page, "pause").dispatch_event("click")
    expect(part(page, "resume")).to_be_visible()
    page.context.route("**/files", lambda route: None if "00001" in route.request.post_data else route.continue_())
    part(page, "resume").dispatch_event("click")
    expect(part(page, "name")).to_have_text("synthetic-00001.tar")
    expect(elsewhere).to_be_focused()


def test_two_files_of_the_same_content_are_told_to_count_once(page, draft, institution, steward, tmp_path):
    programmes.change(draft.programme, kinds=["weights", "synthetic"], by=None)
    several = contributing.draft(institution, BaseModel.objects.get(), by=steward, kind="synthetic")
    page.goto(f"/contributions/{several.pk}/files/")
    shards = [tmp_path / f"synthetic-0000{number}.tar" for number in range(3)]
    for shard, content in zip(shards, (b"one", b"one", b"other"), strict=True):
        shard.write_bytes(content)
    choose(page, shards)
    expect(part(page, "problem")).to_contain_text(
        "synthetic-00001.tar is byte for byte synthetic-00000.tar, which is here: it counts once."
    )
    expect(page.locator("#upload-file")).to_be_focused()
    assert sorted(several.files.values_list("name", "state")) == [
        ("synthetic-00000.tar", "uploaded"), ("synthetic-00002.tar", "uploaded"),
    ]  # fmt: skip
