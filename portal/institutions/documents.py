"""The ethics document on its way: from the browser straight into quarantine. The portal never opens it."""

import unicodedata
from base64 import b64encode
from datetime import datetime
from http import HTTPStatus

from django.db import transaction
from django.db.models import Max

from portal import malware, storage
from portal.accounts.models import User
from portal.audit import services as audit
from portal.errors import DomainError, NotAllowed
from portal.institutions import lifecycle, services
from portal.institutions.models import Document, Institution

MAX_BYTES = 20 * 2**20
MAX_VERSIONS = 20
TYPES = {"pdf": "application/pdf", "jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png"}
State = Document.State


class DocumentRefused(DomainError):
    """The document's name, size or hash cannot be accepted."""

    code = "document_refused"
    status = HTTPStatus.BAD_REQUEST


class DocumentMissing(DomainError):
    """The document has not arrived in the store."""

    code = "document_missing"


class DocumentInfected(DomainError):
    """The malware scanner knows what is in the document."""

    code = "document_infected"
    status = HTTPStatus.BAD_REQUEST


def _extension(name: str) -> str:
    return name.rpartition(".")[2].lower()


def check(*, name: str, size_bytes: int, sha256: str) -> None:
    """Raise DocumentRefused for what is not a PDF, JPEG or PNG of at most 20 MiB, by its name and size."""
    if not name.strip() or len(name) > 200 or any(unicodedata.category(c)[0] == "C" or c in "/\\" for c in name):
        raise DocumentRefused("The file needs a name of 1 to 200 characters without slashes. Rename it and try again.")
    if _extension(name) not in TYPES:
        raise DocumentRefused(f"{name} is not a PDF, JPEG or PNG. Save the document as a PDF and choose that file.")
    if not 1 <= size_bytes <= MAX_BYTES:
        raise DocumentRefused(f"{name} has {size_bytes:,} bytes; 1 to {MAX_BYTES:,} are accepted. Send a smaller scan.")
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise DocumentRefused("The SHA-256 must be 64 hexadecimal digits. Choose the file again.")


def _require_sender(institution: Institution, by: User) -> None:
    services.require_manager(by, institution)
    if institution.status in lifecycle.ENDED:
        raise NotAllowed(f"{institution} is {institution.get_status_display().lower()}: nothing can be added.")


def announce(
    institution: Institution, *, name: str, size_bytes: int, sha256: str, by: User, now: datetime
) -> tuple[Document, str, dict[str, str]]:
    """
    Announce a version of the ethics document.

    Return it, an address that accepts one PUT of exactly these bytes within 15 minutes, and the headers to send.
    A document that was announced and did not arrive is signed again; one that is here stays as it is.
    """
    _require_sender(institution, by)
    check(name=name, size_bytes=size_bytes, sha256=sha256)
    document = _row(institution, name=name, size_bytes=size_bytes, sha256=sha256, by=by, now=now)
    if document.state == State.STORED:
        raise DocumentRefused(f"This file is here already: version {document.version}. Nothing was changed.")
    digest, content_type = b64encode(bytes.fromhex(sha256)).decode(), TYPES[_extension(document.name)]
    url = storage.sign_put(document.key, sha256=digest, size_bytes=document.size_bytes, content_type=content_type)
    return document, url, {"x-amz-checksum-sha256": digest, "Content-Type": content_type}


@transaction.atomic
def _row(institution: Institution, *, name: str, size_bytes: int, sha256: str, by: User, now: datetime) -> Document:
    Institution.objects.select_for_update().get(pk=institution.pk)  # versions are counted one by one
    known = Document.objects.filter(institution=institution, sha256=sha256).first()
    if known is not None:
        return known
    if institution.documents.count() >= MAX_VERSIONS:
        raise DocumentRefused(f"{MAX_VERSIONS} versions are here, and no more are kept. Write to the reviewer instead.")
    newest = institution.documents.aggregate(newest=Max("version"))["newest"] or 0
    document = Document.objects.create(
        institution=institution,
        version=newest + 1,
        name=name,
        size_bytes=size_bytes,
        sha256=sha256,
        key=f"institutions/{institution.pk}/{sha256}-{size_bytes}",
        uploaded_by=by,
        uploaded_at=now,
    )
    audit.record("document.announced", document, by=by, sha256=sha256, size_bytes=size_bytes)
    return document


def complete(document: Document, *, by: User, now: datetime) -> Document:
    """Note that the document has arrived, if the store says so and no malware is found in it. Safe to repeat."""
    _require_sender(document.institution, by)
    if document.state == State.STORED:
        return document
    if storage.size(storage.QUARANTINE, document.key) != document.size_bytes:
        raise DocumentMissing(f"{document.name} has not arrived whole. Choose the file again to send it.")
    _scan(document, by=by)
    return _stored(document.pk, by=by, now=now)


def _scan(document: Document, *, by: User) -> None:
    """Send the document through the scanner, where there is one: reviewers open it on computers of their own."""
    if not malware.is_wanted():
        return
    if found := malware.scan(storage.stream(storage.QUARANTINE, document.key)).signature:
        _forget(document, signature=found, by=by)
        raise DocumentInfected(
            f"ClamAV finds {found} in {document.name}, so it is not kept. Look for malware on your computer, and send "
            "the document as it was given to you. If you are sure that this is a false alarm, write to the operators."
        )


def _forget(document: Document, *, signature: str, by: User) -> None:
    with transaction.atomic():
        audit.record("document.refused", document, by=by, sha256=document.sha256, signature=signature)
        Document.objects.filter(pk=document.pk).delete()
    storage.delete(storage.QUARANTINE, document.key)


@transaction.atomic
def _stored(document_id: int, *, by: User, now: datetime) -> Document:
    document = Document.objects.select_for_update().get(pk=document_id)
    if document.state != State.STORED:
        document.state, document.uploaded_at = State.STORED, now
        document.save(update_fields=["state", "uploaded_at"])
        audit.record("document.stored", document, by=by, sha256=document.sha256, size_bytes=document.size_bytes)
    return document


def sign_download(document: Document, *, by: User) -> str:
    """Return an address from which the document can be saved, never shown, for some minutes."""
    with transaction.atomic():
        audit.record("document.downloaded", document, by=by, sha256=document.sha256)
    filename = f"ethics-{document.institution.slug}-{document.version}.{_extension(document.name)}"
    return storage.sign_download(storage.QUARANTINE, document.key, filename=filename)
