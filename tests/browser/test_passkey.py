"""A passkey in a real browser, with Chromium's virtual authenticator: enrol, sign in, prove who one is."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.people import prove_identity, sign_up

pytestmark = pytest.mark.browser


def add_virtual_authenticator(page: Page) -> None:
    """Give the page a telephone with a fingerprint that always fits (WebAuthn Level 2, section 11)."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def test_a_passkey_is_enrolled_signs_in_and_proves_who_one_is(portal, new_page):
    page = new_page()
    add_virtual_authenticator(page)
    sign_up(page, "Tariq Passkey", "tariq@passkey.example")
    page.goto("/account/second-factor/")
    page.get_by_role("link", name="Add a passkey").click()
    prove_identity(page)
    page.locator("input[name=name]").fill("My telephone")
    page.locator("input[name=passwordless]").check()
    page.locator("#mfa_webauthn_add").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()

    # Sign in with it, without the password
    page.goto("/accounts/logout/")
    page.locator("main form button[type=submit]").click()
    page.goto("/accounts/login/")
    page.locator("#passkey_login").click()
    page.wait_for_url(lambda url: "/accounts/login/" not in url)
    page.goto("/accounts/sessions/")
    expect(page.locator("main")).to_contain_text("This browser")

    # A fresh proof by passkey alone: no password, no code
    page.goto("/account/tokens/")
    expect(page.locator("input[name=password]")).to_be_visible()
    page.get_by_role("link", name="Use a passkey instead").click()
    page.locator("#mfa_webauthn_reauthenticate").click()
    expect(page.locator("main")).to_contain_text("You have just proved who you are")
    expect(page.locator("input[name=password]")).to_have_count(0)
    page.locator("input[name=name]").fill("Cluster")
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("main")).to_contain_text("grf_")
