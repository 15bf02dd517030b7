"""Send what a site contributes: announce it as a draft, upload it, sign it, submit it. Repeated, it goes on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from . import __version__, client, shards, statements, terminal, transfer
from .client import Document, Portal, PortalError
from .errors import KitError

SENT = {"submitted", "validating", "review", "approved"}  # the portal has it: sent again, it is refused as a duplicate


@dataclass(frozen=True)
class Parcel:
    """
    A contribution as it is to arrive.

    kind: weights (one file) or synthetic (shards). report: the signed privacy report. key: to sign with, or None.
    connections: parts on the way at once. embargo_until: the first day on which it may be used, or None.
    """

    kind: str
    institution: str
    base_model: str
    title: str
    card: Document
    files: tuple[Path, ...]
    report: Document | None = None
    key: Any = None
    connections: int = transfer.CONNECTIONS
    embargo_until: date | None = None

    def wanted(self) -> dict[str, str]:
        """Return what a contribution is found again by, as the portal keeps it: no blanks around a title."""
        return {"institution": self.institution, "base_model": self.base_model, "title": self.title.strip()}

    def embargo(self) -> dict[str, str]:
        """Return the day as the portal takes it; without one, a draft keeps what it has."""
        return {"embargo_until": self.embargo_until.isoformat()} if self.embargo_until else {}


def send(portal: Portal, parcel: Parcel, resume_id: int | None = None) -> Document:
    """Return the contribution after it is submitted; what an interrupted run left is found and gone on with."""
    with terminal.Bars(is_bytes=True) as on_progress:
        hashed = [transfer.hash_file(path, on_progress=on_progress) for path in parcel.files]
        on_progress.close()
        found = portal.contribution(resume_id) if resume_id else _begun(portal, parcel, hashed)
        if found is not None and resume_id:
            _require_of(found, parcel, hashed)
        if found is None:
            found = portal.create_contribution(
                **parcel.wanted(), kind=parcel.kind, training_card=parcel.card, **parcel.embargo()
            )
        elif found["status"] == "draft":
            terminal.say(f"Going on with contribution {found['id']}.")
            found = portal.change_contribution(
                found["id"], title=parcel.title.strip(), training_card=parcel.card, **parcel.embargo()
            )
        _require_kept(parcel, found)
        if found["status"] != "draft":
            terminal.say(f"Contribution {found['id']} was submitted before: nothing is sent again.")
            return found
        for path, known in zip(parcel.files, hashed, strict=True):
            transfer.upload(
                portal, found["id"], path, hashed=known, connections=parcel.connections, on_progress=on_progress
            )
    if parcel.key is not None:
        portal.attest(found["id"], "signature", _signature(parcel, hashed))
    if parcel.report is not None:
        portal.attest(found["id"], "privacy", parcel.report)
    return _submit(portal, found)


def _require_of(found: Document, parcel: Parcel, hashed: Sequence[transfer.FileHash]) -> None:
    """Raise KitError unless what somebody names to be gone on with is what they send; a title may have changed."""
    wanted = {**parcel.wanted(), "kind": parcel.kind}
    other = next((key for key in ("kind", "institution", "base_model") if found[key] != wanted[key]), None)
    theirs = {file["parts_sha256"] for file in found["files"]}
    if other is not None:
        what = f"is of the {other.replace('_', ' ')} {found[other]}, and what you send is of {wanted[other]}"
    elif found["status"] in SENT and theirs != {one.parts_sha256 for one in hashed}:
        what = "was submitted before, with other files than these"
    else:
        return
    fix = "Give the number of the right one, or leave --resume out: these files are then sent as one of their own."
    raise KitError(f"Contribution {found['id']} {what}. Nothing is sent.", code="other_contribution", fix=fix)


def _require_kept(parcel: Parcel, found: Document) -> None:
    """Raise KitError unless the contribution has the embargo that was asked for: an older portal knows of none."""
    kept = found.get("embargo_until")
    if parcel.embargo_until and kept != parcel.embargo_until.isoformat():
        raise KitError(
            f"Contribution {found['id']} is not kept from use until {parcel.embargo_until}: the portal says "
            f"{kept or 'that it is under no embargo'}. Nothing more is sent.",
            code="embargo_not_kept",
            fix="Look at its page; if the portal offers no embargo, ask its operators before you send.",
        )


def _begun(portal: Portal, parcel: Parcel, hashed: Sequence[transfer.FileHash]) -> Document | None:
    """
    Find what an interrupted run left: the same institution, base and title, and no other file.

    One that was submitted, for the run may have ended while it waited for the checks; else a draft.
    """
    wanted, ours = {**parcel.wanted(), "kind": parcel.kind}, {one.parts_sha256 for one in hashed}
    draft = None
    for row in portal.contributions():
        if row["status"] not in {"draft", *SENT} or any(row[key] != wanted[key] for key in wanted):
            continue
        found = portal.contribution(row["id"])
        theirs = {file["parts_sha256"] for file in found["files"]}
        if found["status"] in SENT and theirs == ours:
            return found
        if draft is None and found["status"] == "draft" and theirs <= ours:
            draft = found
    return draft


def _signature(parcel: Parcel, hashed: Sequence[transfer.FileHash]) -> Document:
    if parcel.kind == "weights":
        return signature_of(parcel.files[0].name, hashed[0].sha256, hashed[0].size_bytes, parcel.key)
    listed = [(path.name, one.sha256) for path, one in zip(parcel.files, hashed, strict=True)]
    return signature_of_shards(listed, parcel.key)


def signature_of(name: str, sha256: str, size_bytes: int, key: Any) -> Document:
    """Return the signed statement that a weights file is the institution's own."""
    return statements.sign(statements.WEIGHTS, name, sha256, {"size_bytes": size_bytes, "kit": __version__}, key)


def signature_of_shards(listed: Sequence[tuple[str, str]], key: Any) -> Document:
    """Return the signed statement that shards, given as (name, SHA-256), are the institution's own."""
    facts = {"shards": len(listed), "kit": __version__}
    return statements.sign(statements.SYNTHETIC, shards.SUMS, shards.digest_of(listed), facts, key)


def _submit(portal: Portal, found: Document) -> Document:
    try:
        return portal.submit(found["id"])
    except PortalError:
        terminal.say(f"What you send is uploaded and kept in draft {found['id']}: {portal.absolute(found['url'])}")
        raise
    except client.Unreachable:
        now = portal.contribution(found["id"])  # the answer was lost; was the question?
        if now["status"] == "draft":
            raise
        return now
