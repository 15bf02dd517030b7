"""Kinds of notification: what a person can choose to get at once, once a day, or not at all."""

from django.db import models


class Type(models.TextChoices):
    APPLICATION = "application", "Applications of my institution"
    INVITATION = "invitation", "Invitations and people of my institution"
    AGREEMENT = "agreement", "Agreements: signatures that wait, reminders, new versions"
    CONTRIBUTION = "contribution", "Contributions of my institution"
    REVIEW = "review", "Applications that wait for my review"
    BALLOT = "ballot", "Ballots and decisions of the board"
    RELEASE = "release", "Releases that I downloaded or follow"
    ACCOUNT = "account", "My account and its security"


# What a person must learn about whether they like it or not: these cannot be switched off.
MANDATORY = {Type.AGREEMENT, Type.ACCOUNT, Type.INVITATION}

# Why, for the page where the others can be.
BECAUSE: dict[str, str] = {
    Type.AGREEMENT: "An agreement binds your institution, so its dates and signatures always reach you by mail.",
    Type.ACCOUNT: "You must learn of a change to your account even if somebody else made it.",
    Type.INVITATION: "Who joins and leaves decides who sees what your institution sends.",
}


class Delivery(models.TextChoices):
    INSTANT = "instant", "By mail at once"
    DAILY = "daily", "In one mail a day"
    OFF = "off", "Only in the inbox"
