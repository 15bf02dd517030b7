"""What people do in every browser test: sign up, sign in, set up an authenticator app, prove who they are."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from allauth.mfa.totp.internal import auth as totp
from playwright.sync_api import Page, expect

from tests.running_portal import wait_until

PASSWORD = "a long walk along the optic nerve"
BOARD = ["adaeze-okafor", "henrik-lund", "sofia-marino", "daniel-reyes"]
_used: set[tuple[str, str]] = set()  # each code is good once


@dataclass
class Person:
    """Somebody at a browser of their own. `secret` is of their app; demonstration accounts have a page instead."""

    page: Page
    name: str
    email: str
    password: str = PASSWORD
    secret: str = ""
    recovery_codes: list[str] = field(default_factory=list)

    def code(self) -> str:
        """Return what proves the second factor: a recovery code, good at once, or else the app's next one."""
        if self.recovery_codes:
            return self.recovery_codes.pop()
        return code_of(self.secret) if self.secret else demo_code(self.page, self.email)


def demo_person(page: Page, name: str, email: str, password: str) -> Person:
    """Sign in as somebody of the demonstration."""
    return Person(sign_in(page, email, password), name, email, password)


def sign_up(page: Page, name: str, email: str) -> Person:
    """Make an account; confirm its address by the mail's link and button."""
    give_particulars(page, name, email)
    page.goto(link_of_mail(page, email, "/accounts/confirm-email/"))
    page.locator("main form button[type=submit]").first.click()
    page.wait_for_url(lambda url: "/accounts/confirm-email/" not in url)
    return Person(page, name, email)


def give_particulars(page: Page, name: str, email: str) -> None:
    """Fill in the page on which one makes an account."""
    page.goto("/accounts/signup/")
    page.get_by_label("Your name").fill(name)
    page.get_by_label(re.compile("e-?mail", re.IGNORECASE)).first.fill(email)
    page.locator("input[name=password1]").fill(PASSWORD)
    page.locator("input[name=agree]").check()
    page.locator("main form:has(input[name=password1]) button[type=submit]").click()
    expect(page.get_by_role("heading", name="Look in your mail")).to_be_visible()


def text_of_mail(page: Page, email: str, holds: str) -> str:
    """Return the newest mail to an address that holds a text."""
    return _of_mails(page, email, holds, lambda reader: reader.locator("main").inner_text())


def link_of_mail(page: Page, email: str, path: str) -> str:
    """Return the newest link that leads to `path` in the mails to an address."""
    link = f"main a[href*='{path}']"
    return _of_mails(page, email, path, lambda reader: reader.locator(link).first.get_attribute("href") or "")


def _of_mails(page: Page, email: str, holds: str, read: Callable[[Page], str]) -> str:
    """Read the newest mail that holds a text, in a page of its own; the worker sends them in a moment."""
    reader = page.context.new_page()
    try:
        return wait_until(lambda: _read(reader, email, holds, read), seconds=60, what=f"a mail with {holds} to {email}")
    finally:
        reader.close()


def _read(page: Page, email: str, holds: str, read: Callable[[Page], str]) -> str:
    page.goto(f"/mailbox/?to={email}")
    for mail in [link.get_attribute("href") or "" for link in page.locator("ul.rows a").all()]:
        page.goto(mail)
        if holds in page.locator("main").inner_text():
            return read(page)
    return ""


def sign_in(page: Page, email: str, password: str, *, secret: str = "") -> Page:
    """Sign in; the code comes from the secret, or from the page where the demonstration's codes are."""
    page.goto("/accounts/login/")
    page.locator("input[name=login]").fill(email)
    page.locator("input[name=password]").fill(password)
    page.locator("main form:has(input[name=login]) button[type=submit]").first.click()
    page.wait_for_url(lambda url: "/accounts/login/" not in url)
    if "/2fa/authenticate/" in page.url:
        page.locator("input[name=code]").fill(code_of(secret) if secret else demo_code(page, email))
        page.locator("main form:has(input[name=code]) button[type=submit]").first.click()
        page.wait_for_url(lambda url: "/2fa/authenticate/" not in url)
    return page


def demo_code(page: Page, email: str) -> str:
    """Return a code of a demonstration account that was not used yet and holds for some seconds more."""

    def fresh() -> str:
        if time.time() % 30 > 25:
            return ""
        text = page.request.get("/mailbox/authenticator/").text().partition("<main")[2]  # the head names the reader
        found = re.search(rf"{re.escape(email)}<.*?mono\">(\d{{6}})<", text, re.DOTALL)
        return _unused(email, found[1]) if found else ""

    return wait_until(fresh, seconds=40, what=f"a code of {email}")


def code_of(secret: str) -> str:
    """Return a code of an authenticator app that was not used yet and holds for some seconds more."""

    def fresh() -> str:
        if time.time() % 30 > 25:
            return ""
        counter = next(totp.yield_hotp_counters_from_time())
        return _unused(secret, totp.format_hotp_value(totp.hotp_value(secret, counter)))

    return wait_until(fresh, seconds=40, what="a code that was not used")


def _unused(owner: str, code: str) -> str:
    if (owner, code) in _used:
        return ""
    _used.add((owner, code))
    return code


def set_up_app(person: Person) -> None:
    """Set up an authenticator app from the page that asks for a second factor, and go on to where it was asked."""
    page = person.page
    expect(page.get_by_role("heading", name="Set up a second factor")).to_be_visible()
    page.get_by_role("link", name="Use an app").click()
    prove_identity(page)
    person.secret = page.locator("[data-copy]").first.get_attribute("data-copy") or ""
    page.locator("input[name=code]").fill(code_of(person.secret))
    page.get_by_role("button", name="Activate").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    page.get_by_role("link", name="go on").click()


def keep_recovery_codes(person: Person) -> None:
    """Read the recovery codes from their page."""
    person.page.goto("/accounts/2fa/recovery-codes/")
    person.recovery_codes = person.page.locator("#recovery_codes").inner_text().split()


def prove_identity(page: Page) -> None:
    """Give the password again on the page that asks for it."""
    expect(page.get_by_role("heading", name="Show that it is you")).to_be_visible()
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("main form button[type=submit]").first.click()


def sign_case(person: Person, case: str) -> None:
    """Read and sign a case: authority, name and, unless it is fresh, a proof of who one is, in one form."""
    page = person.page
    page.goto(case)
    page.get_by_role("link", name="Read and sign").click()
    page.locator("input[name=authority]").check()
    page.locator("input[name=typed_name]").fill(person.name)
    if page.locator("main form input[name=password]").count():
        page.locator("input[name=password]").fill(person.password)
        page.locator("input[name=code]").fill(person.code())
    page.get_by_role("button", name="Sign", exact=True).click()
    expect(page.locator("body")).to_contain_text("Signed.")


def board_members(new_page: Callable[[], Page], password: str) -> list[Person]:
    """Sign in the members of the board who come to the walks."""
    return [demo_person(new_page(), name, f"{name}@demo.example", password) for name in BOARD]


def vote_for(members: list[Person], title: str, *, voters: int = 3) -> None:
    """
    Let members of the board vote for the motion with this title: as many of five as settle it.

    Each answers first that there is no interest; who is asked to review it does so before.
    """
    for member in members:
        open_case(member, title)
        if member.page.get_by_role("button", name="Send the review").count():
            review(member)
    for member in members[:voters]:
        vote(member, member.page.url)
        expect(member.page.locator("body")).to_contain_text("Your vote is on record")


def open_case(member: Person, title: str) -> None:
    """Find a motion on the docket and answer that there is no interest in it."""
    page = member.page
    page.goto("/board/")
    page.get_by_role("link", name=title).first.click()
    if page.url.endswith("/declare/"):
        page.get_by_label("I have no interest in the outcome").check()
        page.get_by_role("button", name="Open the case").click()
    expect(page.get_by_role("heading", name="In short")).to_be_visible()


def review(member: Person) -> None:
    """Answer the reviewer's questions and recommend approval."""
    form = member.page.locator("form[action$='/review/']")
    for answer in form.get_by_label("Yes", exact=True).all():
        answer.check()
    form.get_by_label("Approve", exact=True).check()
    form.locator("textarea").fill("Read in full.")
    form.get_by_role("button", name="Send the review").click()
    expect(member.page.locator("body")).to_contain_text("Your review is sent")


def vote(member: Person, case: str, choice: str = "For", reason: str = "") -> None:
    """Cast a vote on the page of a motion, with a proof of who it is where the last one is not fresh."""
    page = member.page
    page.goto(case)
    form = page.locator("form[action$='/vote/']")
    form.get_by_label(choice, exact=True).check()
    form.locator("textarea[name=reason]").fill(reason)
    prove_in(member, "form[action$='/vote/']")
    form.get_by_role("button", name="Cast the vote").click()


def prove_in(member: Person, form: str) -> None:
    """Type password and code where a form asks for them."""
    if member.page.locator(f"{form} input[name=password]").count():
        member.page.locator(f"{form} input[name=password]").fill(member.password)
        member.page.locator(f"{form} input[name=code]").fill(member.code())
