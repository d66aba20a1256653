"""The settings of the proof: ledger, collectors, anchors, verification, signatures, alerts and who may look."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from config.network import Tls
from config.section import Section
from config.values import (
    AeTitle,
    Age,
    Count,
    FilePath,
    FolderPath,
    Form,
    Host,
    Port,
    PositiveSeconds,
    Share,
    WebAddress,
    WebRoot,
)


class Collector(Section):
    """A syslog collector, such as an audit record repository of IHE ATNA, that gets every event of the ledger."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$",
        description="Our name for it; what it has confirmed is kept under this name. A new name gets the whole ledger.",
    )
    host: Host = Field(description="Its host name or address; its certificate must carry it.")
    port: Port = Field(6514, description="Its port; 6514 is syslog over TLS (RFC 5425).")
    transport: Literal["tls", "tcp", "udp"] = Field(
        "tls", description="RFC 5425, 6587 or 5426. Without TLS anybody on the way can read, drop and forge."
    )
    tls: Tls | None = Field(None, description="Our client certificate, and the authorities of the collector's.")
    facility: int = Field(10, ge=0, le=23, description="Syslog facility; 10 (security) is what IHE ITI-20 asks for.")
    message_id: Literal["IHE+RFC-3881", "DICOM+RFC3881"] = Field(
        "IHE+RFC-3881", description="MSGID: of IHE ITI-20, or of DICOM PS3.15."
    )
    confirmation: Literal["close-notify", "close", "sent"] = Field(
        "close",
        description="What confirms a batch: the collector's TLS close_notify after ours, its closing of the connection "
        "after ours, or that its TCP acknowledged every byte.",
    )
    batch: int = Field(500, ge=1, le=10_000, description="Messages on one connection, confirmed together.")
    timeout: PositiveSeconds = Field(10, description="Seconds to wait for each of its answers.")
    backoff_limit: PositiveSeconds = Field(60, description="Longest pause between two attempts, seconds.")


BucketName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"),
    Form("3 to 63 lower-case letters, digits, dots or -, beginning and ending with a letter or digit"),
]
BucketPrefix = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9_.-]+/)+$", max_length=200),
    Form("folder names, each with a / after it"),
]
Region = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$"), Form("the name of a region, such as eu-central-1")]


class S3(Section):
    """A bucket with object lock, at Amazon S3 or a store that speaks its API.

    Credentials come from the environment or the machine's role, where the AWS tools find them; they have no key here.
    """

    bucket: BucketName = Field(description="Name of the bucket; made with object lock enabled.")
    prefix: BucketPrefix = Field(
        "scanwarden/checkpoints/",
        description="What the names of the objects begin with; one for each ledger, and a new one after a backup was "
        "restored.",
    )
    endpoint_url: WebRoot | None = Field(
        None,
        description="Root of an S3-compatible store, such as https://objects.example; unset: Amazon S3.",
    )
    region: Region | None = Field(None, description="Region of the bucket; unset: as the AWS tools find it.")
    retention_days: int = Field(
        3650,
        ge=1,
        le=36_500,
        description="Days for which nobody can delete or overwrite a checkpoint (mode COMPLIANCE), its owner neither.",
    )
    timeout: PositiveSeconds = Field(10, description="Seconds to wait for each of its answers; asked at most twice.")


class Audit(Section):
    """The ledger's own timetable."""

    verify_interval: PositiveSeconds = Field(
        3600, description="Seconds between two verifications of the ledger's chain."
    )
    checkpoint_interval: PositiveSeconds = Field(
        300, description="Seconds between two signed checkpoints of the ledger; none is taken while nothing happens."
    )
    keys: FolderPath | None = Field(
        None, description="Folder of the private keys that sign checkpoints; unset: `keys` under `store.root`."
    )
    anchors: tuple[FilePath, ...] = Field(
        (),
        description="Append-only files that get every checkpoint, beside `ledger/checkpoints.jsonl` under "
        "`store.root`; best where the database's administrator cannot write.",
    )
    s3: S3 | None = Field(None, description="A bucket with object lock that gets every checkpoint; unset: none.")
    trusted_keys: tuple[FilePath, ...] = Field(
        (),
        description="PEM files of public keys that the ledger's verification believes, with those that they vouch "
        "for; unset: the first key that the ledger names is believed.",
    )
    collectors: tuple[Collector, ...] = Field((), description="Where audit messages (DICOM PS3.15 A.5) are sent.")
    collect_interval: PositiveSeconds = Field(1, description="Seconds between two looks for events to send.")
    source_id: str | None = Field(
        None, min_length=1, max_length=64, description="AuditSourceID of our messages; unset: `dicom.ae_title`."
    )
    site_id: str | None = Field(
        None, min_length=1, max_length=64, description="AuditEnterpriseSiteID of our messages; unset: none."
    )


class Verification(Section):
    """How the archive is compared with what was first seen."""

    archive: str | None = Field(
        None, min_length=1, description="Name of the destination that is verified by the clock; unset: none is."
    )
    dicomweb: WebRoot | None = Field(
        None,
        description="Root of the archive's DICOMweb services, such as https://pacs.example/dicom-web: studies are "
        "fetched by WADO-RS in place of C-GET. TLS as in the destination's `tls`.",
    )
    authorization_file: FilePath | None = Field(
        None, description="File with the value of the Authorization header for `dicomweb`; unset: none is sent."
    )
    move_ae_title: AeTitle | None = Field(
        None,
        description="AE title by which the archive knows `move_port`: studies are fetched by C-MOVE to that port, in "
        "place of C-GET. It must not be `dicom.ae_title`.",
    )
    move_port: Port | None = Field(
        None, description="TCP port that is open while the archive sends by C-MOVE; at `dicom.host`, with `dicom.tls`."
    )
    studies_per_hour: Count = Field(12, ge=1, description="Studies that the timetable asks the archive for in an hour.")
    instances_per_second: Count = Field(
        20, ge=1, description="Instances that are taken from the archive in a second, whoever asks."
    )
    window: Age = Field(timedelta(days=90), description="Age up to which a verification counts for the coverage.")
    random_share: Share = Field(
        0.25, description="Share of the timetable's studies that chance picks; the others are the longest unverified."
    )


class OurSignature(Section):
    """The key that signs our own evidence objects."""

    certificate: FilePath = Field(description="PEM file with the certificate of the key.")
    private_key: FilePath = Field(
        description="PEM file with an RSA key of 2048 bits or more; readable by the service's user only."
    )


class Signatures(Section):
    """Digital signatures in DICOM objects (PS3.15 Annex C)."""

    authorities: FilePath | None = Field(
        None,
        description="PEM file with the authorities, or the single signers, whose signatures prove something; unset: a "
        "signature proves nothing, and only one that does not fit is noticed.",
    )
    ours: OurSignature | None = Field(None, description="Signs our SEG and SR; unset: they are not signed.")


class Alerts(Section):
    """Security events of the ledger, sent to a webhook at once."""

    url: WebAddress | None = Field(
        None,
        description="Where alerts are posted: https://…, or http://… on this machine; unset: no alerts.",
    )
    secret_file: FilePath | None = Field(
        None, description="File with the secret, 32 bytes or more, that signs each alert (HMAC-SHA256)."
    )
    authorities: FilePath | None = Field(
        None, description="PEM file with the authorities of the receiver's certificate; unset: those of this machine."
    )
    minimum_severity: Literal["warning", "incident"] = Field("incident", description="Least severe event that is sent.")
    interval: PositiveSeconds = Field(2, description="Seconds between two looks for new events, and between attempts.")
    timeout: PositiveSeconds = Field(10, description="Seconds to wait for the receiver's answer.")


class Person(Section):
    """A user or a group of the operating system, and what they may do."""

    user: str | None = Field(None, min_length=1, description="Name of a user.")
    group: str | None = Field(None, min_length=1, description="Name of a group; each of its members.")
    role: Literal["viewer", "radiologist", "security", "administrator"] = Field(
        description="What they may do; see docs/signatures-and-access.md."
    )


class Access(Section):
    """Who may use our tools."""

    people: tuple[Person, ...] = Field(
        (),
        description="Users and groups with their role. Empty: whoever may read and write the files under `store.root` "
        "is an administrator, and nobody else gets in.",
    )
