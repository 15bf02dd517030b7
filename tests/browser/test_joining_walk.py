"""How an institution joins: an account, the institution, its people, a profile, a reviewer's questions, the vote."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import (
    Person,
    board_members,
    demo_person,
    give_particulars,
    link_of_mail,
    set_up_app,
    sign_up,
    text_of_mail,
    vote_for,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NAME, SLUG = "Universidad de Buenos Aires", "universidad-de-buenos-aires"
HOME = f"/institutions/{SLUG}"
OFFICIAL = "rectorado@uba.example"
BEGUN = ["E-mail address verified", "Second factor set up"]
ANSWERS = {"population_served": "Adults of the southern suburbs.", "cameras": "Topcon", "ethics_reference": "CEI 12/26"}


def done(page: Page) -> list[str]:
    """Return the steps of the onboarding checklist that are done."""
    page.goto(f"{HOME}/onboarding/")
    steps = page.locator("main ul.checklist > li").filter(has=page.locator(".end", has_text="Done"))
    return [step.locator("strong").first.inner_text() for step in steps.all()]


def digits_of(mail: str) -> str:
    found = re.search(r"\b(\d{3}) ?(\d{3})\b", mail)
    assert found, mail
    return found[1] + found[2]


def sign_up_by_code(page: Page, scanner: Page, name: str, email: str) -> Person:
    """Make an account by the six digits of the mail, after a mail scanner has opened the link twice in vain."""
    give_particulars(page, name, email)
    link = link_of_mail(page, email, "/accounts/confirm-email/")
    for _ in range(2):
        scanner.goto(link)
        expect(scanner.get_by_role("button", name="Yes, confirm")).to_be_visible()
    page.get_by_role("link", name="Enter the code").click()
    page.locator("input[name=code]").fill(digits_of(text_of_mail(page, email, "Confirm your address")))
    page.get_by_role("button", name="Confirm", exact=True).click()
    page.wait_for_url(lambda url: "/email-code/" not in url)
    return Person(page, name, email)


def find(page: Page, typed: str) -> None:
    """Type a name where one finds the institution, and take it from the registry, without pressing Search."""
    page.goto("/institutions/apply/")
    page.locator("#q").press_sequentially(typed)
    page.get_by_role("link", name=re.compile(rf"This is mine\s*: {NAME}")).click()
    expect(page.locator("input[name=ror_id]")).to_have_value("0081fs513")


def invite(page: Page, email: str, role: str) -> None:
    form = page.locator("form[action$='/people/invite/']")
    form.locator("input[name=email]").fill(email)
    form.locator("select[name=role]").select_option(role)
    form.locator("button[type=submit]").click()
    expect(page.locator("main")).to_contain_text(email)


def begin(person: Person) -> None:
    """Begin the application as its principal investigator, and set up the second factor that the role needs."""
    page = person.page
    find(page, "buenos")
    page.locator("select[name=kind]").select_option("university")
    page.locator("select[name=role]").select_option("principal_investigator")
    page.get_by_role("button", name="Save and go on").click()
    set_up_app(person)


def ask_to_join(page: Page) -> None:
    """Find what somebody has begun already, by another of its names, and ask its managers."""
    find(page, "university of buenos")
    page.locator("select[name=kind]").select_option("university")
    page.locator("select[name=role]").select_option("steward")
    page.get_by_role("button", name="Save and go on").click()
    expect(page.locator("main")).to_contain_text(f"{NAME} is here already")
    page.get_by_role("link", name="Ask to join it").click()
    page.locator("select[name=role]").select_option("steward")
    page.locator("textarea[name=message]").fill("I keep the archive of photographs.")
    page.get_by_role("button", name="Send the request").click()
    expect(page.locator("body")).to_contain_text("They answer, not the consortium.")


def saved(page: Page, field: str) -> None:
    expect(page.locator(f".asked:has([name='{field}']) .saved")).to_contain_text("Saved")


def fill_profile(page: Page) -> None:
    """Answer field by field; each is saved when it is left. A reload keeps what was typed and what is not known."""
    page.goto(f"{HOME}/edit/")
    for name, answer in ANSWERS.items():
        page.locator(f"[name={name}]").fill(answer)
        page.keyboard.press("Tab")
        saved(page, name)
    page.locator("#unknown-image_count").check()
    saved(page, "image_count")
    page.reload()
    assert {name: page.locator(f"[name={name}]").input_value() for name in ANSWERS} == ANSWERS
    expect(page.locator("#unknown-image_count")).to_be_checked()
    for name, value in {"gpu": "small", "expertise": "some", "legal_basis": "approval"}.items():
        page.locator(f"select[name={name}]").select_option(value)
    for name, value in {"care_settings": "clinic", "labels": "dr"}.items():
        page.locator(f"input[name={name}][value={value}]").check()
    for name, value in {"years_from": "2015", "years_to": "2025"}.items():
        page.locator(f"input[name={name}]").fill(value)
    page.get_by_role("button", name="Save and read back").click()
    expect(page.get_by_role("heading", name="Send it", exact=True)).to_be_visible()
    expect(page.locator("main")).to_contain_text("Not known yet")


def return_for_changes(page: Page) -> None:
    """Ask for changes of two fields, as the reviewer."""
    page.goto("/institutions/reviews/?show=all")
    page.get_by_role("link", name=NAME).click()
    for field, label, text in (("city", "City", "Which campus?"), ("cameras", "Cameras", "Which model?")):
        page.get_by_text(f"Ask for a change: {label}").click()
        page.locator(f"#comment-{field}").fill(text)
    page.get_by_role("button", name="Return for changes").click()
    expect(page.locator("body")).to_contain_text(f"{NAME} has the application again")


def mend(page: Page) -> None:
    """Read each request at its field, change both and send the application again."""
    page.goto(f"{HOME}/onboarding/")
    expect(page.locator("main")).to_contain_text("2 fields have requests.")
    page.get_by_role("link", name="See them at their fields").click()
    for field, asked, answer in (
        ("city", "Which campus?", "Buenos Aires, Ciudad Universitaria"),
        ("cameras", "Which model?", "Topcon TRC-NW400"),
    ):
        expect(page.locator(f".asked:has([name='{field}']) .comment")).to_contain_text(asked)
        page.locator(f"[name={field}]").fill(answer)
    page.get_by_role("button", name="Save and read back").click()
    send(page, "Send it again")


def send(page: Page, heading: str) -> None:
    page.goto(f"{HOME}/review/")
    expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    page.get_by_role("button", name="Send the application").click()
    expect(page.locator("body")).to_contain_text("The application is sent.")


def changes(page: Page) -> list[list[str]]:
    """Return the reviewer's table of what changed: field, before, now."""
    page.goto(f"{HOME}/case/")
    rows = page.locator("section[aria-labelledby=changes] tbody tr").all()
    return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in rows]


def test_an_institution_joins(portal, new_page):
    # An account, the institution, its first person
    ana = sign_up_by_code(new_page(), new_page(), "Ana Sosa", "ana@uba.example")
    begin(ana)
    invite(ana.page, OFFICIAL, "signing_official")
    assert done(ana.page) == BEGUN

    # A second person finds the same institution and asks its managers
    lucia = sign_up(new_page(), "Lucía Paz", "lucia@uba.example")
    ask_to_join(lucia.page)
    ana.page.goto(f"{HOME}/people/")
    expect(ana.page.locator("main")).to_contain_text("I keep the archive of photographs.")
    ana.page.get_by_role("button", name="Take in Lucía Paz").click()
    expect(ana.page.locator("body")).to_contain_text(f"Lucía Paz belongs to {NAME} now.")
    assert done(lucia.page) == BEGUN

    # The official's invitation, forwarded: nothing for anybody else. By its code: the role
    link = link_of_mail(lucia.page, OFFICIAL, "/institutions/invitations/")
    lucia.page.goto(link)
    expect(lucia.page.locator("main")).to_contain_text(
        f"The invitation is for {OFFICIAL}, and you are signed in as lucia@uba.example."
    )
    expect(lucia.page.get_by_role("button", name="Accept")).to_be_disabled()
    official = sign_up(new_page(), "Raúl Vega", OFFICIAL)
    official.page.goto("/institutions/invitations/code/")
    official.page.locator("input[name=code]").fill(digits_of(text_of_mail(official.page, OFFICIAL, "type the code")))
    official.page.get_by_role("button", name="Accept the invitation").click()
    expect(official.page.get_by_role("heading", name="Set up a second factor")).to_be_visible()
    here = ["E-mail address verified", "People are here"]
    assert done(ana.page) == here
    official.page.goto(f"{HOME}/onboarding/")
    set_up_app(official)

    # The profile, sent; returned for changes; mended and sent again
    fill_profile(ana.page)
    assert done(ana.page) == ["E-mail address verified", "Profile complete", "People are here", "Second factor set up"]
    send(ana.page, "Send it")
    sent = [*here[:1], "Profile complete", here[1], "Application sent", "Second factor set up"]
    assert done(ana.page) == sent
    operator = demo_person(new_page(), "Olu Adeyemi", "operator@demo.example", portal.password)
    return_for_changes(operator.page)
    assert done(lucia.page) == [step for step in sent if step != "Application sent"]
    mend(ana.page)
    assert done(ana.page) == sent
    assert changes(operator.page) == [
        ["City", "Buenos Aires", "Buenos Aires, Ciudad Universitaria"],
        ["Cameras", "Topcon", "Topcon TRC-NW400"],
    ]

    # The board admits it
    vote_for(board_members(new_page, portal.password), f"Admit {NAME}")
    assert done(ana.page) == [*sent[:4], "Vetting", "Admitted by the board", "Second factor set up"]
    expect(ana.page.locator("main")).to_contain_text("Prepare the agreement")
