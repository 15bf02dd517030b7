"""The board at work (JOURNEYS.md 5.6): five members, one recused, a tie that the chair breaks, a ballot that lapses."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import demo_person, open_case, prove_in, vote

pytestmark = pytest.mark.browser
MEMBERS = {
    "chair": ("Adaeze Okafor", "adaeze-okafor@demo.example"),
    "second": ("Henrik Lund", "henrik-lund@demo.example"),
    "third": ("Sofia Marino", "sofia-marino@demo.example"),
    "fourth": ("Daniel Reyes", "daniel-reyes@demo.example"),
    "recused": ("Meera Nair", "meera-nair@demo.example"),
}
AGAINST = "The ethics approval is from another hospital."
DECISION = re.compile(r"D-\d{4}-\d{4}")


def test_five_members_decide(portal, new_page):
    case = portal.scene("applicant", name="Harbour Bay Eye Hospital", member_email=MEMBERS["recused"][1])
    title = "Admit Harbour Bay Eye Hospital"
    people = {key: demo_person(new_page(), *who, portal.password) for key, who in MEMBERS.items()}

    # The case opens when the question about interests is answered; who belongs to the applicant is never asked
    recused = people["recused"].page
    recused.goto("/board/")
    expect(recused.get_by_role("listitem").filter(has_text=title)).to_contain_text("You are recused")
    recused.goto(case)
    expect(recused.locator("main")).to_contain_text("belongs to Harbour Bay Eye Hospital")
    expect(recused.locator("form[action$='/vote/']")).to_have_count(0)
    for key in ("chair", "second", "third", "fourth"):
        open_case(people[key], title)
    watching = people["chair"].page
    expect(watching.locator("#state")).to_contain_text("0 of 4 have voted")

    # Two for, two against: live turnout, hidden ballots, a changed vote
    vote(people["second"], case, "Against", "I have a doubt.")
    expect(watching.locator("#state")).to_contain_text("1 of 4 have voted")
    expect(watching.locator("main")).not_to_contain_text("I have a doubt.")
    second = people["second"].page
    second.get_by_text("Change your vote").click()
    form = second.locator("form[action$='/vote/']")
    form.get_by_label("Against", exact=True).check()
    form.locator("textarea[name=reason]").fill(AGAINST)
    prove_in(people["second"], "form[action$='/vote/']")
    form.get_by_role("button", name="Cast the vote").click()
    expect(second.locator("main")).to_contain_text("Before: Against")
    vote(people["third"], case, "Against", AGAINST)
    vote(people["fourth"], case)
    vote(people["chair"], case)
    expect(people["chair"].page.locator("main")).to_contain_text("Tied")
    expect(people["third"].page.locator("form[action$='/tie/']")).to_have_count(0)

    # The chair breaks the tie, with a reason
    chair = people["chair"].page
    chair.goto(case)
    tie = chair.locator("form[action$='/tie/']")
    tie.get_by_label("For", exact=True).check()
    tie.locator("textarea[name=reason]").fill("The approval covers both hospitals; the letter came today.")
    prove_in(people["chair"], "form[action$='/tie/']")
    tie.get_by_role("button", name="Decide the tie").click()
    expect(chair.locator("main")).to_contain_text("2 for, 2 against, 0 abstained: 4 of 4 voted")
    expect(chair.locator("main")).to_contain_text("decided for.")
    expect(chair.locator("main")).to_contain_text(AGAINST)
    expect(chair.locator("main")).to_contain_text(DECISION)
    recused.goto(case)
    expect(recused.locator("main")).not_to_contain_text(AGAINST)

    # Without a quorum: once more, then it lapses, and a person puts it again
    second_case = portal.scene("applicant", name="Quiet Bay Eye Hospital")
    open_case(people["fourth"], "Admit Quiet Bay Eye Hospital")
    vote(people["fourth"], second_case)
    assert portal.scene("days_pass", motion=second_case, days=15) == "open"
    second.goto("/board/")
    expect(second.get_by_role("listitem").filter(has_text="Quiet Bay")).to_contain_text("extended once")
    assert portal.scene("days_pass", motion=second_case, days=23) == "lapsed"
    chair.goto(second_case)
    expect(chair.locator("main")).to_contain_text("Lapsed")
    chair.get_by_role("button", name="Put the question again").click()
    expect(chair.locator("body")).to_contain_text("The question is before the board again")
