"""An anchor in S3: each checkpoint an object of its own, locked in mode COMPLIANCE, so that not even its owner can take
it back before its time.

Objects are named by number and never written twice. In a bucket with object lock a later write or delete only lies on
top: the versions underneath stay, so all of them are read, the first locked one counts, and what lies on top is named.
boto3 is an extra, and loaded only where an anchor is asked.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import md5
from typing import Any

from config.settings import S3
from storage.audit.anchors import Anchored
from storage.audit.checkpoint import Checkpoint, CheckpointUnreadable
from storage.errors import StorageError

_NAME = re.compile(r"(\d{12})\.json")
_LARGEST = 65_536  # a checkpoint has some 600 bytes
_APPENDING = 30.0  # seconds, so that a long backlog does not hold the timetable up; the rest goes with the next one
_READING = 300.0
_LOCK = "COMPLIANCE"
_CLOCKS = timedelta(days=1)


class ObjectStoreFault(StorageError):
    """The object store cannot be reached or refuses."""

    http_status = 503


@dataclass(slots=True)
class _Object:
    """What lies under one name: versions, the oldest first, and whether a delete marker hides them."""

    versions: list[dict[str, Any]] = field(default_factory=list)
    hidden: bool = False


class S3Anchor:
    """The checkpoints of a ledger in a bucket."""

    def __init__(self, settings: S3) -> None:
        self._settings = settings
        self._conditional = True

    @property
    def name(self) -> str:
        return self.where

    @property
    def where(self) -> str:
        return f"s3://{self._settings.bucket}/{self._settings.prefix}"

    def last(self, near: int) -> Checkpoint | None:
        """The newest checkpoint. Looks from `near` on, and back in doubling steps when there is nothing."""
        until = time.monotonic() + _APPENDING
        step = 1
        with self._asking("read"):
            while True:
                start = max(0, near - step)
                objects = self._list(start, until)
                for number in sorted(objects, reverse=True):
                    _in_time(until)
                    if objects[number].versions:
                        checkpoint, _ = self._judged(number, objects[number], {})
                        if checkpoint is not None:
                            return checkpoint
                if start == 0:
                    return None
                step *= 2

    def append(self, checkpoints: Sequence[Checkpoint]) -> int:
        """Put them in order, as many as half a minute has room for. Raises StorageError."""
        until = time.monotonic() + _APPENDING
        count = 0
        with self._asking("write"):
            for each in checkpoints:
                if count and time.monotonic() > until:
                    break
                self._put(each)
                count += 1
        return count

    def read(self, known: Mapping[int, Checkpoint]) -> Anchored | None:
        """All objects in all versions; fetched is what the listing's digest does not show to be the one we know."""
        found: list[Checkpoint] = []
        faults: list[str] = []
        try:
            with self._asking("read"):
                until = time.monotonic() + _READING
                objects = self._list(0, until)
                if not objects:
                    return None
                newest = max(objects)
                for number in sorted(objects):
                    _in_time(until)
                    same = {} if number == newest else known  # whether the store locks at all only a fetch shows
                    checkpoint, wrong = self._judged(number, objects[number], same)
                    faults += wrong
                    if checkpoint is None:
                        continue
                    if found and (checkpoint.number, checkpoint.previous) != (found[-1].number + 1, found[-1].digest):
                        faults.append(f"object {number} does not follow {found[-1].number}")
                    found.append(checkpoint)
        except StorageError as fault:
            return Anchored(self.where, tuple(found), str(fault))
        faults += self._missing(known, found[0].number if found else newest)
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        return Anchored(self.where, tuple(found), "; ".join(faults[:3]) + more if faults else None)

    def _missing(self, known: Mapping[int, Checkpoint], first: int) -> list[str]:
        """Old objects may go, by a rule of the bucket, once their lock has ended; not before."""
        kept_from = datetime.now(UTC) - timedelta(days=self._settings.retention_days) + _CLOCKS
        early = [each.number for each in known.values() if each.number < first and _is_after(each.time, kept_from)]
        return [f"begins at object {first}; {min(early)} has to be there, its lock has not ended"] if early else []

    def _judged(
        self, number: int, stored: _Object, known: Mapping[int, Checkpoint]
    ) -> tuple[Checkpoint | None, list[str]]:
        """The checkpoint that counts under a number, and what is wrong there."""
        faults = [f"object {number} is hidden by a delete marker"] if stored.hidden else []
        versions = stored.versions
        if not versions:
            return None, [f"{faults[0]}, and no version of it is left"]
        ours = known.get(number)
        if ours is not None and len(versions) == 1 and _has_digest_of(versions[0], ours):
            return ours, faults
        contents = [self._get(each) for each in versions]
        locked = [content for content, is_locked in contents if is_locked]
        counts = locked[0] if locked else contents[0][0]
        if not locked:
            faults.append(f"object {number} has no lock: the store or somebody's key takes it without")
        others = sum(content != counts for content, _ in contents)
        if others:
            faults.append(f"object {number} was written over: {others} other versions")
        try:
            checkpoint = Checkpoint.from_json(json.loads(counts))
        except (ValueError, CheckpointUnreadable):
            return None, [*faults, f"object {number} is no checkpoint"]
        if checkpoint.number != number:
            return None, [*faults, f"object {number} holds checkpoint {checkpoint.number}"]
        return checkpoint, faults

    def _list(self, after: int, until: float) -> dict[int, _Object]:
        found: dict[int, _Object] = {}
        place = {"Bucket": self._settings.bucket, "Prefix": self._settings.prefix}
        if after > 0:
            place["KeyMarker"] = self._key(after)
        while True:
            _in_time(until)
            page = self._client.list_object_versions(**place)
            for each in page.get("Versions", ()):
                if (number := self._number(each["Key"])) > after:  # some stores begin at the marker, not behind it
                    found.setdefault(number, _Object()).versions.append(each)
            for each in page.get("DeleteMarkers", ()):
                if (number := self._number(each["Key"])) > after:
                    found.setdefault(number, _Object()).hidden = True
            if not page.get("IsTruncated"):
                break
            place["KeyMarker"] = page["NextKeyMarker"]
            if page.get("NextVersionIdMarker"):
                place["VersionIdMarker"] = page["NextVersionIdMarker"]
        for stored in found.values():  # a listing has the newest first; times alone are too coarse
            stored.versions = stored.versions[::-1]
            stored.versions.sort(key=lambda each: each["LastModified"])
        return found

    def _get(self, version: Mapping[str, Any]) -> tuple[bytes, bool]:
        answer = self._client.get_object(
            Bucket=self._settings.bucket, Key=version["Key"], VersionId=version["VersionId"]
        )
        with answer["Body"] as body:
            return body.read(_LARGEST), answer.get("ObjectLockMode") == _LOCK

    def _put(self, checkpoint: Checkpoint) -> None:
        from botocore.exceptions import ClientError

        if self._conditional:
            try:
                self._write(checkpoint, IfNoneMatch="*")
            except ClientError as fault:
                code = fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if code == 501:
                    self._conditional = False
                elif code != 412:
                    raise
            else:
                return
        # Ours already, when an answer was lost on the way. What is not ours gets ours on top: a lock lets nobody be
        # kept from anchoring, and verification names the other one.
        number = checkpoint.number
        stored = self._list(number - 1, time.monotonic() + _APPENDING).get(number, _Object())
        if (checkpoint.line(), True) not in [self._get(each) for each in stored.versions]:
            self._write(checkpoint)

    def _write(self, checkpoint: Checkpoint, **conditions: str) -> None:
        self._client.put_object(
            Bucket=self._settings.bucket,
            Key=self._key(checkpoint.number),
            Body=checkpoint.line(),
            ContentType="application/json",
            ChecksumAlgorithm="SHA256",
            ObjectLockMode=_LOCK,
            ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(days=self._settings.retention_days),
            **conditions,
        )

    def _key(self, number: int) -> str:
        return f"{self._settings.prefix}{number:012d}.json"

    def _number(self, key: str) -> int:
        """The checkpoint's number; 0 for an object that is none of ours."""
        matched = _NAME.fullmatch(key.removeprefix(self._settings.prefix))
        return int(matched[1]) if matched else 0

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        settings = self._settings
        elsewhere = settings.endpoint_url is not None
        limits = Config(
            connect_timeout=min(5.0, settings.timeout),
            read_timeout=settings.timeout,
            retries={"total_max_attempts": 2, "mode": "standard"},
            s3={"addressing_style": "path" if elsewhere else "auto"},
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region or ("us-east-1" if elsewhere else None),
            config=limits,
        )

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        try:
            from boto3.exceptions import Boto3Error
            from botocore.exceptions import BotoCoreError, ClientError
            from botocore.parsers import ResponseParserError
        except ImportError:
            raise ObjectStoreFault(
                f"cannot {doing} {self.where}: boto3 is not installed; install the extra: pip install 'scanwarden[s3]'"
            ) from None
        try:
            yield
        except (BotoCoreError, Boto3Error, ClientError, ResponseParserError) as fault:
            raise ObjectStoreFault(
                f"cannot {doing} {self.where}: {fault}; check the network, the credentials in the environment, and "
                "that the bucket has object lock"
            ) from fault


def _has_digest_of(version: Mapping[str, Any], checkpoint: Checkpoint) -> bool:
    """The store's MD5 of what it has. Nobody can make other bytes with the MD5 of these; under KMS it is none."""
    return bool(version["ETag"].strip('"') == md5(checkpoint.line(), usedforsecurity=False).hexdigest())


def _is_after(moment: str, limit: datetime) -> bool:
    try:
        return datetime.fromisoformat(moment) > limit
    except (ValueError, TypeError):
        return True


def _in_time(until: float) -> None:
    if time.monotonic() > until:
        raise ObjectStoreFault("the object store is too slow: its objects cannot be read in time")
