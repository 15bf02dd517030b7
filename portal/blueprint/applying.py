"""Making the portal what a programme's folder says: through the services, and only what differs."""

from datetime import datetime
from pathlib import Path

from django.db import transaction

from contributions.corpora.models import DataSet
from governance.benchmarks import services as benchmarks
from governance.benchmarks.models import Task
from portal.accounts import services as accounts
from portal.accounts.models import ConsortiumRole, User
from portal.agreements import services as agreements
from portal.agreements.models import Agreement
from portal.agreements.rendering import normalised, text_sha256
from portal.audit import services as audit
from portal.blueprint import reading
from portal.blueprint.reading import Blueprint
from portal.blueprint.tables import BlueprintInvalid
from portal.institutions import options
from portal.institutions.vocabulary import OptionList
from portal.programmes import services as programmes
from portal.programmes.models import BaseModel, Programme


def apply(folder: Path, *, by: User | None, now: datetime) -> list[str]:
    """
    Apply a programme's folder and return a sentence for each thing that changed or still waits.

    Applying the same folder again changes nothing. What the folder no longer names stays: agreements, base models,
    tasks and seats end by their own ways, never by being left out.

    Raises:
        BlueprintInvalid: nothing was changed; each problem names file and key.
    """
    judged = set(BaseModel.objects.values_list("slug", "version", "sha256"))
    blueprint = reading.read(folder, registered=judged)
    programme, done = _in_database(blueprint, by=by, now=now)
    for base in blueprint.base_models:  # outside the transaction: the file goes to the object store
        row = BaseModel.objects.filter(programme=programme, slug=base.slug, version=base.version).first()
        if row is None:
            registered = programmes.register_base_model(programme, base.folder, by=by, now=now)
            done.append(f"Registered the base model {registered}.")
        elif row.config != base.config:
            done.append(
                f"{row} was registered with another config.json, which stays. Give the new one another version."
            )
    return done


@transaction.atomic
def _in_database(blueprint: Blueprint, *, by: User | None, now: datetime) -> tuple[Programme, list[str]]:
    programme, done = _programme(blueprint, by=by, now=now)
    _refuse_other_weights(programme, blueprint)
    done += [line for name, wanted in blueprint.profile.items() for line in _options(programme, name, wanted, by=by)]
    done += _agreements(programme, blueprint.agreements, by=by, now=now)
    done += [line for task in blueprint.tasks for line in _task(programme, task, by=by, now=now)]
    done += [line for seat in blueprint.seats for line in _seat(programme, seat, by=by, now=now)]
    return programme, done


def _programme(blueprint: Blueprint, *, by: User | None, now: datetime) -> tuple[Programme, list[str]]:
    existing = Programme.objects.select_for_update().filter(slug=blueprint.slug).first()
    if existing is None:
        created = programmes.create(slug=blueprint.slug, **blueprint.fields, by=by, now=now)
        return created, [f"Created the programme {created}."]
    changed = programmes.change(existing, **blueprint.fields, by=by)
    existing.refresh_from_db()
    return existing, [f"Changed {', '.join(changed)} of {existing}."] if changed else []


def _options(programme: Programme, name: str, wanted: dict[str, str], *, by: User | None) -> list[str]:
    """Let the profile offer what the specialty brings to one of its lists."""
    offered = options.offer(name, wanted)
    if not offered:
        return []
    audit.record("programme.changed", programme, by=by, fields=[f"profile.{name}"])
    return [f"“{OptionList(name).label}” of the profile now offers {', '.join(offered)}."]


def _refuse_other_weights(programme: Programme, blueprint: Blueprint) -> None:
    """A version of a base model is its bytes: other bytes are another version."""
    for base in blueprint.base_models:
        row = BaseModel.objects.filter(programme=programme, slug=base.slug, version=base.version).first()
        if row is not None and row.sha256 != base.sha256:
            raise BlueprintInvalid(
                [f"{base.key}folder: {row} is registered with other weights. Give the changed ones another version."]
            )


def _agreements(programme: Programme, wanted: list[reading.Agreement], *, by: User | None, now: datetime) -> list[str]:
    """Add the agreements that are new, change summaries, and publish a version of each whose text changed."""
    done = []
    for row in wanted:
        agreement = programme.agreements.filter(slug=row.slug).first() or agreements.create_agreement(
            programme,
            slug=row.slug,
            title=row.title,
            summary=row.summary,
            covers=row.covers,
            signing_order=row.signing_order,
            months_valid=row.months_valid or None,
            by=by,
            now=now,
        )
        _refuse_other_terms(agreement, row)
        if row.summary and agreements.describe(agreement, summary=row.summary, by=by):
            done.append(f"Changed the summary of {agreement}.")
        done += _version(agreement, row, by=by, now=now)
    return done


def _refuse_other_terms(agreement: Agreement, row: reading.Agreement) -> None:
    """Institutions signed under these terms: other ones are another agreement."""
    for name in ("title", "covers", "signing_order", "months_valid"):
        has = getattr(agreement, name) or 0  # no months: it does not expire
        if has != getattr(row, name):
            raise BlueprintInvalid([f"{row.key}{name}: {agreement} has {has}. Give other terms another slug."])


def _version(agreement: Agreement, row: reading.Agreement, *, by: User | None, now: datetime) -> list[str]:
    """Publish the text unless it is, or once was, published: a portal may be ahead of its folder."""
    known = agreement.versions.filter(sha256=text_sha256(normalised(row.texts.text))).first()
    if known is not None and row.deletion_days and known.deletion_days != row.deletion_days:
        return [f"{known} was published with {known.deletion_days or 'no'} days to delete files; that stays."]
    if known is not None:
        return []
    newest = agreements.newest_of(agreement)
    if newest is not None and newest.change_note == row.change_note:
        raise BlueprintInvalid(
            [f"{row.key}change_note: the text differs from {newest}. Say here what changed since then."]
        )
    version = agreements.publish(
        agreement,
        **row.texts.fields(),
        change_note=row.change_note,
        is_material=row.is_material,
        deletion_days=row.deletion_days or None,
        by=by,
        now=now,
    )
    return [f"Published {version}."]


def _task(programme: Programme, wanted: reading.Task, *, by: User | None, now: datetime) -> list[str]:
    """Register a benchmark task where its data set is; a registered task never changes under its results."""
    existing = Task.objects.select_related("dataset").filter(slug=wanted.slug).first()
    if existing is not None:
        same = (existing.programme_id, existing.dataset.slug, existing.label) == (
            programme.pk,
            wanted.dataset,
            wanted.label,
        )
        if same:
            return []
        raise BlueprintInvalid(
            [f"{wanted.key}slug: a task {wanted.slug} is registered on other data. Give the new one another slug."]
        )
    dataset = DataSet.objects.filter(programme=programme, slug=wanted.dataset).first()
    if dataset is None:
        return [f"The task {wanted.slug} waits for the data set {wanted.dataset}. Apply again once it is registered."]
    benchmarks.register_task(
        dataset,
        slug=wanted.slug,
        name=wanted.name,
        label=wanted.label,
        protocol={},
        position=wanted.position,
        by=by,
        now=now,
    )
    return [f"Registered the task {wanted.name}."]


def _seat(programme: Programme, wanted: reading.Seat, *, by: User | None, now: datetime) -> list[str]:
    """Give a seat on the programme's board to somebody who has proved to read the address."""
    person = User.objects.filter(email__iexact=wanted.email, is_active=True).first()
    if person is None or person.email not in accounts.verified_emails(person):
        return [f"The seat of {wanted.email} waits: no account with this verified address. Apply again later."]
    seats = ConsortiumRole.objects.current().filter(programme=programme, role=wanted.role)
    if seats.filter(user=person).exists():
        return []
    if wanted.role == ConsortiumRole.Role.CHAIR and seats.exists():
        raise BlueprintInvalid([f"{wanted.key}role: the board of {programme} has a chair. End that seat first."])
    accounts.appoint(person, wanted.role, programme=programme, by=by, now=now)
    return [f"{wanted.email} is on the board of {programme}."]
