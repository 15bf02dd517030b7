"""
The record of processing activities (GDPR, Art. 30(1)), drawn from the models: each personal field belongs to one.

A field that can hold something about a person and is in neither table below fails `manage.py check`, and so the build.
Whoever adds one decides here what it is for, on which legal basis it is kept and for how long.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.db import models

from portal.institutions import countries


@dataclass(frozen=True)
class Activity:
    """One processing activity: Art. 30(1)(b) to (g). Whose data, and which, follow from PERSONAL."""

    title: str
    purpose: str
    legal_basis: str
    subjects: str
    recipients: str
    retention: str


CONTRACT = "Art. 6(1)(b): the terms of the site, which the person accepted"
INTEREST = "Art. 6(1)(f): the consortium's interest in {}"
LEGAL = "Art. 17(3)(e): needed to establish, exercise or defend legal claims; kept after an erasure"
ACTIVITIES: dict[str, Activity] = {
    "account": Activity(
        "Accounts", "Letting a person sign in, and naming them to those they work with.", CONTRACT,
        "Everybody with an account", "People of the same institution, the board, operators",
        "Until the person erases the account.",
    ),
    "security": Activity(
        "Security of accounts", "Recognising who signs in, and ending sessions, tokens and kits.",
        INTEREST.format("keeping accounts from others"), "Everybody with an account", "Nobody",
        f"Sessions {settings.SESSION_COOKIE_AGE // 86_400} days; "
        "tokens until they expire or are ended; all of it until the account is erased.",
    ),
    "membership": Activity(
        "Institutions and their people", "Knowing who acts for an institution, and deciding on its application.",
        CONTRACT, "People of applicants and members, those they invite, reviewers",
        "The institution's people, the board, operators, auditors",
        "Roles with their dates for as long as the institution is on record; addresses of invitations until answered.",
    ),
    "agreements": Activity(
        "Signatures", "Proving who bound an institution to which text.", LEGAL,
        "Signing officials, investigators, signatories of the consortium",
        "The parties; the public sees a receipt without names", "For as long as the agreement can be relied on.",
    ),
    "contributions": Activity(
        "Contributions", "Knowing who sent what, and why it was taken back.",
        INTEREST.format("a traceable origin of what models learn from"), "Stewards and investigators",
        "The institution's people, the board, operators, auditors",
        "For as long as a model that learnt from it exists.",
    ),
    "holds": Activity(
        "Files held back from deletion", "Keeping what a court, an authority or an inquiry needs.",
        LEGAL, "The operators who place and release a hold, and whoever its reason names",
        "The institution's people, operators, auditors", "For as long as the contribution is on record.",
    ),
    "incidents": Activity(
        "Isolated contributions", "Keeping apart, reporting and deleting what should not have been sent.",
        LEGAL, "The operators who isolate a contribution, and whoever its reason or the names of its files name",
        "The institution's people, operators, auditors", "For as long as the contribution is on record.",
    ),
    "room": Activity(
        "Requests for room", "Deciding how much room an institution has for its files.",
        INTEREST.format("sharing its store fairly"), "Stewards and investigators who ask, operators who answer",
        "The institution's people, operators, auditors, the chair", "For as long as the institution is on record.",
    ),
    "board": Activity(
        "Decisions of the board", "Deciding by members without a conflict of interest, on the record.",
        INTEREST.format("decisions that others can verify"),
        "Members of the boards, whoever is proposed for a seat, and who answers for an institution",
        "The board, operators, auditors; in public: declared interests, minority opinions, seats",
        "For ever: a decision stays with its votes; an erased account leaves a number in place of a name.",
    ),
    "releases": Activity(
        "Licences and downloads", "Proving who accepted which licence, and telling them when a model is retracted.",
        LEGAL,
        "Whoever downloads a model", "Operators and auditors", "For as long as the licence can be relied on.",
    ),
    "mail": Activity(
        "Notifications", "Telling people what waits for them.", CONTRACT,
        "Everybody with an account, and who is invited",
        "The mail servers between the portal and the reader",
        f"The outbox {settings.OUTBOX_KEPT_DAYS} days; the inbox until the account is erased.",
    ),
    "audit": Activity(
        "Audit log", "Showing that nothing was changed unseen.", INTEREST.format("a log that outsiders can verify"),
        "Everybody who changes something", "Auditors, operators, the chair; in public: hashes alone",
        "For ever, by number and without a name; the number means nobody once the account is erased.",
    ),
    "jobs": Activity(
        "Runs", "Knowing who asked for a training or an evaluation.", INTEREST.format("the use of its machines"),
        "Operators", "Operators and auditors", "For as long as its result exists.",
    ),
}  # fmt: skip

# Fields about people, by model: the activity, and the fields. Free text that somebody typed about others is one too.
PERSONAL: dict[str, tuple[str, str]] = {
    "accounts.User": ("account", "password email name"),
    "accounts.User_groups": ("account", "user"),
    "accounts.User_user_permissions": ("account", "user"),
    "account.EmailAddress": ("account", "user email"),
    "socialaccount.SocialAccount": ("account", "user uid extra_data"),
    "accounts.TermsAcceptance": ("account", "user"),
    "admin.LogEntry": ("account", "user object_repr change_message"),
    "mfa.Authenticator": ("security", "user data"),
    "usersessions.UserSession": ("security", "user ip session_key user_agent data"),
    "sessions.Session": ("security", "session_key session_data"),
    "accounts.ApiToken": ("security", "user name"),
    "accounts.DeviceLogin": ("security", "client_name approved_by"),
    "accounts.ConsortiumRole": ("membership", "user"),
    "institutions.Membership": ("membership", "user"),
    "institutions.Invitation": ("membership", "email invited_by accepted_by"),
    "institutions.JoinRequest": ("membership", "person message answered_by reason"),
    "institutions.Review": ("membership", "snapshot sent_by reviewer note grounds"),
    "institutions.FieldComment": ("membership", "text by"),
    "institutions.Document": ("membership", "name uploaded_by"),
    "institutions.PathwayChoice": ("membership", "chosen_by"),
    "institutions.SigningKey": ("membership", "label registered_by revoked_by reason"),
    "agreements.SigningRequest": ("agreements", "variables text started_by reason"),
    "agreements.CoveredInstitution": ("agreements", "confirmed_by"),
    "agreements.Signature": ("agreements", "signer printed_name authority authentication ip_address user_agent"),
    "contributions.Contribution": ("contributions", "training_card created_by submitted_by reason"),
    "contributions.Hold": ("holds", "reason placed_by release_reason released_by"),
    "contributions.Isolation": ("incidents", "reason file_names placed_by lift_reason lifted_by deletion_ordered_by"),
    "contributions.RoomRequest": ("room", "reason asked_by reply decided_by"),
    "contributions.Attestation": ("contributions", "added_by"),
    "contributions.Contributor": ("contributions", "person roles"),
    "board.BallotRule": ("board", "set_by"),
    "board.Motion": ("board", "person opened_by proposal reason"),
    "board.Vote": ("board", "voter reason conditions"),
    "board.CastingVote": ("board", "chair reason"),
    "board.Recusal": ("board", "member reason"),
    "board.Declaration": ("board", "member note"),
    "board.Interest": ("board", "member organisation note"),
    "board.Review": ("board", "reviewer note"),
    "board.Comment": ("board", "author text"),
    "board.MinorityOpinion": ("board", "author text"),
    "board.Condition": ("board", "settled_by report note"),
    "board.Meeting": ("board", "called_by minutes"),
    "board.Attendance": ("board", "member"),
    "releases.Release": ("releases", "proposed_by"),
    "releases.SiteAnswer": ("board", "reason by"),
    "releases.LicenseAcceptance": ("releases", "user typed_name institution_name purpose"),
    "releases.Download": ("releases", "user"),
    "notifications.Mail": ("mail", "recipient subject body"),
    "notifications.Notification": ("mail", "recipient subject text"),
    "notifications.Preference": ("mail", "user"),
    "notifications.Webhook": ("mail", "owner url"),
    "notifications.OutboxMessage": ("mail", "user address subject text html"),
    "audit.AuditEvent": ("audit", "actor_id subject facts"),
    "jobs.Run": ("jobs", "requested_by retry_reason"),
    "jobs.RunEvent": ("jobs", "by note"),
}

# Names of things, digests, keys of the store, texts of the consortium, and what machines wrote.
IMPERSONAL: dict[str, str] = {
    "auth.Permission": "name codename",
    "auth.Group": "name",
    "admin.LogEntry": "object_id",
    "account.EmailConfirmation": "key",
    "socialaccount.SocialApp": "provider provider_id name client_id secret key settings",
    "socialaccount.SocialAccount": "provider",
    "socialaccount.SocialToken": "token token_secret",
    "accounts.ApiToken": "prefix digest",
    "accounts.DeviceLogin": "user_code digest",
    "accounts.SiteTerms": "text sha256 change_note",
    "accounts.EmailCode": "digest",
    "audit.AuditEvent": "verb subject_type",
    "audit.Checkpoint": "note",
    "notifications.Notification": "path key",
    "notifications.Webhook": "salt disabled_because last_error",
    "notifications.OutboxMessage": "key path last_error",
    "institutions.FieldComment": "field",
    "institutions.Document": "sha256 key",
    "institutions.RorOrganisation": "ror_id name local_name country city website key words",
    "institutions.Institution": "slug name local_name ror_id country subregion city website population_served "
    "care_settings cameras labels regulation_note ethics_reference unknown decision_reason",
    "institutions.ProfileOption": "field code name",
    "institutions.Invitation": "digest code_hmac",
    "institutions.SigningKey": "public_key fingerprint",
    "programmes.Programme": "slug name modality headline description public_description thresholds",
    "programmes.BaseModel": "slug version config card sha256 storage_key licence",
    "agreements.Agreement": "slug title summary covers signing_order",
    "agreements.AgreementVersion": "text sha256 language change_note side_notes",
    "agreements.AgreementTranslation": "language text sha256 side_notes",
    "agreements.SigningRequest": "text_sha256 receipt_code",
    "agreements.Signature": "institution_name meaning document_id document_title text_sha256 previous_sha256",
    "contributions.Contribution": "title manifest_sha256",
    "contributions.ContributionFile": "name parts_sha256 sha256 storage_key upload_id vault_version",
    "contributions.Attestation": "envelope",
    "contributions.CheckResult": "name sentence fix evidence",
    "contributions.Evidence": "name storage_key sha256",
    "corpora.DataSet": "slug title description credits manifest_sha256 sha256 storage_key",
    "corpora.Corpus": "slug title manifest_sha256",
    "corpora.CorpusPart": "source_sha256",
    "releases.License": "spdx_id title url text sha256",
    "releases.Candidate": "slug name description config training sha256 storage_key",
    "releases.Release": "slug name version card reason",
    "releases.ReleaseFile": "name sha256 storage_key",
    "releases.LicenseAcceptance": "license_sha256",
    "benchmarks.Task": "slug name label protocol",
    "benchmarks.Evaluation": "dataset_sha256 candidate_sha256 report",
    "board.Review": "answers",
    "board.Condition": "text",
    "board.Meeting": "title place",
    "board.AgendaItem": "text",
    "board.Motion": "title arithmetic",
    "jobs.Worker": "name host process queues version versions device driver gpu_type",
    "jobs.Run": "title inputs config_sha256 code_version device environment result_sha256 gpu_type progress_text error",
    "jobs.RunLog": "text",
    "jobs.Inspection": "position faults buckets leftovers",
    "jobs.Usage": "device",
    "jobs.Beat": "name",
    "jobs.Maintenance": "message",
}
TEXT = (models.CharField, models.TextField, models.JSONField, models.GenericIPAddressField)
BY_NUMBER = {"actor_id"}  # a person without a foreign key


@dataclass(frozen=True)
class Row:
    """One activity with what is kept for it, as the page and the table show it."""

    key: str
    activity: Activity
    fields: list[str]  # "Signature: printed name"


def can_be_personal(field: Any) -> bool:
    """Test if a field can hold something about a person: a reference to one, or text that is not chosen from a list."""
    if field.is_relation:
        return field.related_model is get_user_model()
    return field.name in BY_NUMBER or (isinstance(field, TEXT) and not field.choices)


def _models() -> Iterator[type[models.Model]]:
    for model in apps.get_models(include_auto_created=True):
        if model._meta.app_label not in {"contenttypes", "sites"}:
            yield model


def unmapped() -> list[str]:
    """Return the fields that can hold something about a person and are in neither table: `app.Model.field`."""
    found = []
    for model in _models():
        label = model._meta.label
        known = {*PERSONAL.get(label, ("", ""))[1].split(), *IMPERSONAL.get(label, "").split()}
        fields = (field for field in model._meta.get_fields() if field.concrete and can_be_personal(field))
        found += [f"{label}.{field.name}" for field in fields if field.name not in known]
    return found


def stale() -> list[str]:
    """Return what the tables name and no model has any more."""
    there = {f"{model._meta.label}.{field.name}" for model in _models() for field in model._meta.get_fields()}
    named = [f"{label}.{name}" for label, (_, names) in PERSONAL.items() for name in names.split()]
    named += [f"{label}.{name}" for label, names in IMPERSONAL.items() for name in names.split()]
    return [name for name in named if name not in there]


def every_personal_field_is_on_record(**kwargs: object) -> list[checks.CheckMessage]:
    """Fail the check, and so the build, on a field that is in neither table."""
    hint = "Add it to PERSONAL or IMPERSONAL in portal/processing.py."
    errors = [checks.Error(f"{name} can hold personal data and is not on record.", hint=hint, id="portal.E001")
              for name in unmapped()]  # fmt: skip
    return [*errors, *(checks.Error(f"{name} does not exist.", hint=hint, id="portal.E002") for name in stale())]


def places() -> list[str]:
    """Return where contributions are kept and processed: names of countries, and what is none as it was written."""
    known = countries.countries()
    return [known[code].name if code in known else code for code in settings.DATA_COUNTRIES]


def every_place_is_a_country(**kwargs: object) -> list[checks.CheckMessage]:
    """Fail the check on a code that is no country's."""
    hint = "DATA_COUNTRIES holds ISO 3166-1 alpha-2 codes, separated by commas: DE,CH."
    unknown = [code for code in settings.DATA_COUNTRIES if code not in countries.countries()]
    return [checks.Error(f"DATA_COUNTRIES: {code} is no country.", hint=hint, id="portal.E003") for code in unknown]


def record() -> list[Row]:
    """Return the record: each activity with the personal fields that are kept for it."""
    fields: dict[str, list[str]] = {key: [] for key in ACTIVITIES}
    for label, (activity, names) in PERSONAL.items():
        model = apps.get_model(label) if "_" not in label else get_user_model()
        noun = str(model._meta.verbose_name).capitalize()
        fields[activity] += [f"{noun}: {name.replace('_', ' ')}" for name in names.split()]
    return [Row(key, activity, fields[key]) for key, activity in ACTIVITIES.items()]
