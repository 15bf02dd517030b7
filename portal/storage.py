"""The object store: three buckets, presigned parts, promotion, streams. The only module that speaks boto3."""

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import IO, Any

import boto3
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

from portal.errors import DomainError

QUARANTINE, VAULT, RELEASES = "quarantine", "vault", "releases"
PART_SIZE_BYTES = 16 * 2**20  # at most 10,000 parts (S3): files up to 160 GB
SIGN_SECONDS = 15 * 60
BLOCK_BYTES = 4 * 2**20
ABORT_AFTER_DAYS = 7


class UploadGone(Exception):
    """An upload was forgotten while its parts were to be joined."""


class Unavailable(DomainError):
    """The object store did not answer: workers try again, pages and API answer 503."""

    code = "storage_unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE


@dataclass(frozen=True)
class Part:
    """One uploaded part: its number (from 1), size in bytes, entity tag, base64 SHA-256, and when it arrived."""

    number: int
    size_bytes: int
    etag: str
    sha256: str
    arrived_at: datetime


@dataclass(frozen=True)
class Stored:
    """One object that lies in a bucket, as its newest version."""

    key: str
    size_bytes: int
    changed_at: datetime


@dataclass(frozen=True)
class OpenUpload:
    """A multipart upload of quarantine that nobody has completed or aborted."""

    key: str
    upload_id: str
    begun_at: datetime


def bucket_name(bucket: str) -> str:
    """Return the store's name of one of our three buckets."""
    return f"{settings.S3_BUCKET_PREFIX}-{bucket}"


def _client(endpoint: str) -> Any:
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",  # boto3's default CRC costs 6x the CPU (BENCHMARKS.md, 2)
        response_checksum_validation="when_required",
        connect_timeout=5,
        read_timeout=60,
        retries={"max_attempts": 3, "mode": "standard"},
    )
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=settings.S3_ACCESS_KEY_ID,
        aws_secret_access_key=settings.S3_SECRET_ACCESS_KEY,
        config=config,
    )


@functools.cache
def _s3() -> Any:
    return _client(settings.S3_ENDPOINT_URL)


@functools.cache
def _public_s3() -> Any:
    """Sign with the address that browsers and kits use."""
    return _client(settings.S3_PUBLIC_URL)


@contextmanager
def _answered(operation: str) -> Iterator[None]:
    """Turn a store that is away into Unavailable; what it refuses passes as it is."""
    try:
        yield
    except (BotoCoreError, ClientError) as exc:
        status = exc.response["ResponseMetadata"].get("HTTPStatusCode", 0) if isinstance(exc, ClientError) else 503
        if status >= 500:
            raise Unavailable(
                f"The object store did not answer ({operation}). Nothing is lost; try again in a minute."
            ) from exc
        raise


def _call(operation: str, **kwargs: Any) -> Any:
    with _answered(operation):
        return getattr(_s3(), operation)(**kwargs)


def ensure_buckets() -> None:
    """Create the buckets that are missing; quarantine accepts parts from the site's own pages."""
    existing = {row["Name"] for row in _call("list_buckets")["Buckets"]}
    for bucket in (QUARANTINE, VAULT, RELEASES):
        if bucket_name(bucket) not in existing:
            _call("create_bucket", Bucket=bucket_name(bucket), ObjectLockEnabledForBucket=bucket == RELEASES)
    _call("put_bucket_versioning", Bucket=bucket_name(VAULT), VersioningConfiguration={"Status": "Enabled"})
    _call("put_bucket_cors", Bucket=bucket_name(QUARANTINE), CORSConfiguration={"CORSRules": [_cors_rule()]})


def _cors_rule() -> dict[str, Any]:
    return {
        "AllowedOrigins": [settings.PORTAL_URL, settings.PORTAL_URL.replace("//localhost:", "//127.0.0.1:")],
        "AllowedMethods": ["PUT"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 3600,
    }


# Uploads


def begin_multipart(key: str) -> str:
    """
    Open a multipart upload in quarantine and return its id.

    Without a checksum algorithm: an upload opened with one is completed only with the checksum of every part, and
    SeaweedFS (4.48) does not list them. Each part's own signed checksum is enforced all the same.
    """
    return _call("create_multipart_upload", Bucket=bucket_name(QUARANTINE), Key=key)["UploadId"]


def sign_part(key: str, upload_id: str, *, number: int, size_bytes: int, sha256: str) -> str:
    """
    Return an address that accepts one PUT of one part of exactly `size_bytes` bytes with this SHA-256 (base64).

    Both are signed headers: the store refuses a damaged part, and any other. Valid for 15 minutes.
    """
    params = {
        "Bucket": bucket_name(QUARANTINE),
        "Key": key,
        "UploadId": upload_id,
        "PartNumber": number,
        "ContentLength": size_bytes,
        "ChecksumSHA256": sha256,
    }
    return _public_s3().generate_presigned_url("upload_part", Params=params, ExpiresIn=SIGN_SECONDS)


def list_parts(key: str, upload_id: str) -> list[Part]:
    """Return the parts that the store holds, by number."""
    pages = _s3().get_paginator("list_parts").paginate(Bucket=bucket_name(QUARANTINE), Key=key, UploadId=upload_id)
    try:
        with _answered("list_parts"):
            rows = [row for page in pages for row in page.get("Parts", [])]
    except ClientError as exc:
        if exc.response["Error"]["Code"] == "NoSuchUpload":
            return []
        raise
    return [
        Part(row["PartNumber"], row["Size"], row["ETag"], row.get("ChecksumSHA256", ""), row["LastModified"])
        for row in rows
    ]


def complete_multipart(key: str, upload_id: str, parts: list[Part]) -> None:
    """
    Join the parts. Safe to call again: an object that is already whole is left as it is.

    Raises:
        UploadGone
    """
    rows = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
    try:
        _call(
            "complete_multipart_upload",
            Bucket=bucket_name(QUARANTINE),
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": rows},
        )
    except ClientError as exc:
        if size(QUARANTINE, key) is not None:
            return
        if exc.response["Error"]["Code"] == "NoSuchUpload":
            raise UploadGone from exc
        raise


def abort_multipart(key: str, upload_id: str) -> None:
    """Forget an unfinished upload and its parts."""
    try:
        _call("abort_multipart_upload", Bucket=bucket_name(QUARANTINE), Key=key, UploadId=upload_id)
    except ClientError as exc:
        if exc.response["Error"]["Code"] != "NoSuchUpload":
            raise


def sign_put(key: str, *, sha256: str, size_bytes: int, content_type: str) -> str:
    """
    Return an address that accepts one PUT into quarantine of exactly `size_bytes` bytes with this SHA-256 (base64).

    Both are signed headers, so the store refuses anything else; we never read the bytes. Valid for 15 minutes.
    """
    params = {
        "Bucket": bucket_name(QUARANTINE),
        "Key": key,
        "ChecksumSHA256": sha256,
        "ContentLength": size_bytes,
        "ContentType": content_type,
    }
    return _public_s3().generate_presigned_url("put_object", Params=params, ExpiresIn=SIGN_SECONDS)


# Objects


def size(bucket: str, key: str) -> int | None:
    """Return the size of an object in bytes, or None where there is none."""
    return _head(bucket, key).get("ContentLength")


def modified_at(bucket: str, key: str) -> datetime | None:
    """Return when an object was written, or None where there is none."""
    return _head(bucket, key).get("LastModified")


def _head(bucket: str, key: str) -> dict[str, Any]:
    """Return what the store says of an object; nothing where there is none."""
    try:
        return _call("head_object", Bucket=bucket_name(bucket), Key=key)
    except ClientError as exc:
        if exc.response["ResponseMetadata"].get("HTTPStatusCode") == HTTPStatus.NOT_FOUND:
            return {}
        raise


def stream(bucket: str, key: str, *, version: str = "") -> Iterator[bytes]:
    """Yield the bytes of an object, or of one of its versions, in blocks of 4 MiB."""
    which = {"VersionId": version} if version else {}
    body = _call("get_object", Bucket=bucket_name(bucket), Key=key, **which)["Body"]
    try:
        while block := body.read(BLOCK_BYTES):
            yield block
    except BotoCoreError as exc:
        raise Unavailable("The object store broke off while an object was read.") from exc


def digest(
    bucket: str, key: str, *, version: str = "", on_block: Callable[[int], None] = lambda size_bytes: None
) -> str | None:
    """
    Read an object and return its SHA-256 (hex), or None where there is none.

    `on_block` gets the number of bytes of each block as it comes; what it raises ends the reading.
    """
    found = hashlib.sha256()
    try:
        for block in stream(bucket, key, version=version):
            found.update(block)
            on_block(len(block))
    except ClientError as exc:
        if exc.response["ResponseMetadata"].get("HTTPStatusCode") == HTTPStatus.NOT_FOUND:
            return None
        raise
    return found.hexdigest()


def objects(bucket: str) -> Iterator[Stored]:
    """Yield what lies in a bucket, by key."""
    for row in _listed("list_objects_v2", "Contents", bucket):
        yield Stored(row["Key"], row["Size"], row["LastModified"])


def open_uploads(folder: str = "") -> Iterator[OpenUpload]:
    """Yield the uploads that are under way in quarantine, or in a folder of it, abandoned ones too."""
    for row in _listed("list_multipart_uploads", "Uploads", QUARANTINE, Prefix=folder):
        yield OpenUpload(row["Key"], row["UploadId"], row["Initiated"])


def _listed(operation: str, rows: str, bucket: str, **which: str) -> Iterator[dict[str, Any]]:
    with _answered(operation):
        for page in _s3().get_paginator(operation).paginate(Bucket=bucket_name(bucket), **which):
            yield from page.get(rows, [])


def put(bucket: str, key: str, content: bytes | IO[bytes], *, content_type: str = "application/octet-stream") -> None:
    """Write an object of our own making (samples, corpora, models); submitted files never pass through here."""
    _call("put_object", Bucket=bucket_name(bucket), Key=key, Body=content, ContentType=content_type)


def put_once(bucket: str, key: str, content: bytes, *, retain_until: datetime, content_type: str) -> bool:
    """
    Write an object that nobody can delete before `retain_until`; False where one is there already, which stays.

    The bucket must have object lock. COMPLIANCE: not even the store's administrator can shorten it.
    """
    try:
        _call(
            "put_object",
            Bucket=bucket_name(bucket),
            Key=key,
            Body=content,
            ContentType=content_type,
            IfNoneMatch="*",
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=retain_until,
            ChecksumAlgorithm="SHA256",  # S3 asks for a checksum where there is a lock
        )
    except ClientError as exc:
        if exc.response["ResponseMetadata"].get("HTTPStatusCode") == HTTPStatus.PRECONDITION_FAILED:
            return False
        raise
    return True


def get(bucket: str, key: str) -> bytes:
    """Return a small object whole (evidence pictures, manifests)."""
    return b"".join(stream(bucket, key))


def promote(source: tuple[str, str], target: tuple[str, str]) -> str:
    """
    Copy an object from one bucket to another inside the store; return the version that the copy has there.

    A store may err, so whoever relies on the copy hashes that version.
    """
    (from_bucket, from_key), (to_bucket, to_key) = source, target
    with _answered("copy"):
        _s3().copy(  # boto3's copy goes in parts above 8 MB, which S3 asks for beyond 5 GB
            {"Bucket": bucket_name(from_bucket), "Key": from_key}, bucket_name(to_bucket), to_key
        )
    return _call("head_object", Bucket=bucket_name(to_bucket), Key=to_key).get("VersionId", "")


def delete(bucket: str, key: str) -> None:
    """Remove an object. Where the bucket keeps versions, as the vault does, they stay."""
    _call("delete_object", Bucket=bucket_name(bucket), Key=key)


def erase(bucket: str, folder: str) -> None:
    """Remove everything whose key begins with `folder`, which ends with a slash, in every version."""
    if not folder.endswith("/"):
        raise ValueError(f"{folder} is no folder: it could be the beginning of another's name.")
    for kind in ("Versions", "DeleteMarkers"):
        for row in list(_listed("list_object_versions", kind, bucket, Prefix=folder)):
            _call("delete_object", Bucket=bucket_name(bucket), Key=row["Key"], VersionId=row["VersionId"])


def sign_download(bucket: str, key: str, *, filename: str) -> str:
    """Return an address from which one file can be read for 15 minutes; Range works."""
    params = {
        "Bucket": bucket_name(bucket),
        "Key": key,
        "ResponseContentDisposition": f'attachment; filename="{filename}"',
    }
    return _public_s3().generate_presigned_url("get_object", Params=params, ExpiresIn=SIGN_SECONDS)
