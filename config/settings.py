"""Every setting of Scanwarden, typed, with its unit, its default and what it is for.

One YAML file, then environment variables (`SCANWARDEN_DATABASE__URL`, two underscores between levels) on top. Secrets
never stand in the file: a password comes from the environment or from a file that the setting names.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from config.document import Document, read_document
from config.faults import ConfigurationRefused
from config.values import (
    Address,
    AeTitle,
    Age,
    Bytes,
    Count,
    FilePath,
    FolderPath,
    Host,
    Port,
    PositiveSeconds,
    Seconds,
    Share,
    WebRoot,
)

ENVIRONMENT_PREFIX = "SCANWARDEN_"


class Section(BaseModel):
    """A level of the file. Unknown keys are faults: a misspelt limit must not pass for a set one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads `yes` and `on` as true, which would pass as the number 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("is true or false, not a number")
        return value


class Role(StrEnum):
    """What a process does; `serve` starts them all unless told otherwise."""

    RECEIVE = "receive"
    ANALYSE = "analyse"
    DELIVER = "deliver"
    TIMETABLE = "timetable"


class Tls(Section):
    """TLS for DICOM after BCP 195 (PS3.15 B.12): 1.2 and 1.3 only."""

    certificate: FilePath = Field(description="PEM file with our certificate and its chain.")
    private_key: FilePath = Field(description="PEM file with our private key; readable by the service's user only.")
    authorities: FilePath | None = Field(
        None, description="PEM file with the authorities whose certificates we accept from the other side."
    )
    require_client_certificate: bool = Field(
        True, description="Receiving only: refuse a peer that shows no certificate that `authorities` signed."
    )


class Source(Section):
    """A modality or PACS that may send to us."""

    ae_title: AeTitle = Field(description="Its calling AE title.")
    addresses: tuple[Address, ...] = Field(
        ("127.0.0.0/8", "::1/128"), min_length=1, description="Addresses or networks (CIDR) that it calls from."
    )
    certificate_subject: str | None = Field(
        None,
        min_length=1,
        description="Common name that its TLS client certificate must carry; unset: any that the authorities signed.",
    )
    priority: Literal["stat", "routine"] | None = Field(
        None, description="Priority of its studies; unset: what the request's own DICOM priority says (HIGH is stat)."
    )

    require_signature: bool = Field(
        False,
        description="It signs everything that it makes (PS3.15 Annex C): an instance without a sound signature by one "
        "of `signatures.authorities` is an incident.",
    )
    trusted: bool = Field(
        False,
        description="What arrives from it first counts as proven, to the byte, for VERIFIED. Needs "
        "`certificate_subject`, because an AE title proves nothing.",
    )

    def admits(self, address: str) -> bool:
        """Whether a peer at `address` (dotted or IPv6 text) may speak as this source."""
        try:
            peer = ip_network(address)
        except ValueError:
            return False
        return any(_within(peer, ip_network(network, strict=False)) for network in self.addresses)


def _within(peer: IPv4Network | IPv6Network, network: IPv4Network | IPv6Network) -> bool:
    mapped = getattr(peer.network_address, "ipv4_mapped", None)
    address = mapped or peer.network_address
    return address in network


class Dicom(Section):
    """Our side of the DICOM network."""

    ae_title: AeTitle = Field("SCANWARDEN", description="Our AE title; a call to another one is rejected.")
    host: Host = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - the sources' allow-list guards it
    port: Port = Field(11112, description="TCP port to listen on.")
    tls: Tls | None = Field(None, description="Certificates; unset: no TLS.")
    sources: tuple[Source, ...] = Field(
        (), description="Who may send. Empty: any AE title, but only from this machine itself (loopback)."
    )
    max_associations: Count = Field(
        64, ge=1, description="Associations open at once; one more is rejected as transient."
    )
    max_associations_per_source: Count = Field(32, ge=1, description="Associations open at once from one address.")
    max_pdu: Bytes = Field(131072, ge=4096, le=1048576, description="Largest PDU we receive, bytes (PS3.8 D.1).")
    max_instance_bytes: Bytes = Field(4 * 1024**3, ge=1024, description="Largest data set we accept, bytes.")
    acse_timeout: PositiveSeconds = Field(
        30, description="Seconds to wait for an association to be agreed or released."
    )
    dimse_timeout: PositiveSeconds = Field(
        60, description="Seconds to wait for the next DIMSE message of an open transfer."
    )
    idle_timeout: PositiveSeconds = Field(
        120, description="Seconds without a byte after which an association is closed."
    )


class Destination(Section):
    """A PACS that gets our evidence objects."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="Our name for it, in logs and on the command line."
    )
    ae_title: AeTitle = Field(description="Its AE title.")
    host: Host = Field(description="Its host name or address.")
    port: Port = Field(description="Its DICOM port.")
    profile: str = Field("orthanc", description="Dialect of the evidence objects that this PACS shows well.")
    tls: Tls | None = Field(None, description="Certificates for this destination; unset: no TLS.")
    calling_ae_title: AeTitle | None = Field(None, description="AE title we call with; unset: `dicom.ae_title`.")
    timeout: PositiveSeconds = Field(30, description="Seconds to wait for each of its answers.")
    attempts: Count = Field(12, ge=1, description="Attempts before a delivery becomes a dead letter.")
    backoff: Seconds = Field(5, description="Seconds before the second attempt; doubles with each one.")
    backoff_limit: Seconds = Field(900, description="Longest pause between two attempts, seconds.")


class Revisions(Section):
    """When a study's state is taken for analysis (a study is never complete)."""

    quiet_period: Seconds = Field(60, description="Seconds without a new instance that close a revision.")
    hard_limit: Seconds = Field(
        1800, description="Seconds after its first instance that close a revision at the latest."
    )
    sweep_interval: PositiveSeconds = Field(1, description="Seconds between two looks for revisions to close.")


class Analysis(Section):
    """How studies are analysed."""

    models: tuple[str, ...] = Field(("edit-unet",), min_length=1, description="The model set, by registry name.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where networks run; auto: a GPU when there is one."
    )
    batch: Count = Field(8, ge=1, description="Slices in a batch.")
    threads: Count = Field(0, ge=0, description="CPU threads of a network; 0: one for each core.")
    memory_limit: Bytes = Field(
        6 * 1024**3, ge=2 * 1024**3, description="Bytes of memory that an analysing process may take."
    )
    max_voxels: int = Field(
        128 * 1024**2, ge=1, le=2**40, description="Voxels of the largest series that is analysed; above it we abstain."
    )
    time_limit: PositiveSeconds = Field(900, description="Seconds for one study; above it we abstain.")
    attempts: Count = Field(3, ge=1, description="Times an analysis may take its process down before we abstain.")


class Database(Section):
    """Where the index, the ledger and the workflows live."""

    url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL, `sqlite:///…` or `postgresql://…`; unset: SQLite files under `store.root`. "
        "A URL with a password must come from the environment.",
    )
    password_file: FilePath | None = Field(None, description="File with the database password.")
    busy_timeout: PositiveSeconds = Field(30, description="Seconds to wait for SQLite's write lock.")


class Store(Section):
    """Where instances lie."""

    root: FolderPath = Field(Path("var"), description="Folder of everything we keep; on one file system.")
    high_watermark: Share = Field(
        0.90, description="Share of the disk in use above which new instances are refused (0xA700)."
    )
    low_watermark: Share = Field(0.85, description="Share of the disk in use below which they are accepted again.")
    reserve_bytes: Bytes = Field(
        256 * 1024**2, ge=0, description="Free bytes kept for the ledger whatever the watermarks say."
    )


class Queues(Section):
    """How much work may wait."""

    high_watermark: Count = Field(
        500, ge=1, description="Revisions waiting for analysis above which new associations are refused."
    )
    low_watermark: Count = Field(400, ge=1, description="Revisions waiting below which they are accepted again.")
    deliveries: Count = Field(4, ge=1, description="Deliveries that run at once in one deliver process.")
    polling_interval: PositiveSeconds = Field(0.5, description="Seconds between two looks into a workflow queue.")


class Retention(Section):
    """How long what is kept; the ledger is never shortened by it."""

    instances: Age | None = Field(None, description="Age at which received instances are deleted; unset: never.")
    evidence: Age | None = Field(None, description="Age at which delivered evidence objects are deleted; unset: never.")
    sweep_interval: PositiveSeconds = Field(3600, description="Seconds between two looks for what is past its age.")


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


class S3(Section):
    """A bucket with object lock, at Amazon S3 or a store that speaks its API.

    Credentials come from the environment or the machine's role, where the AWS tools find them; they have no key here.
    """

    bucket: str = Field(
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="Name of the bucket; made with object lock enabled."
    )
    prefix: str = Field(
        "scanwarden/checkpoints/",
        pattern=r"^([A-Za-z0-9_.-]+/)+$",
        max_length=200,
        description="What the names of the objects begin with; one for each ledger, and a new one after a backup was "
        "restored.",
    )
    endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        description="Root of an S3-compatible store, such as https://objects.example; unset: Amazon S3.",
    )
    region: str | None = Field(
        None, pattern=r"^[a-z0-9-]{1,63}$", description="Region of the bucket; unset: as the AWS tools find it."
    )
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

    url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#@]+(/[^\s]*)?$",
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


class Log(Section):
    """What goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is written."
    )
    format: Literal["console", "json"] = Field("console", description="For people or for a collector.")


class Settings(BaseSettings):
    """The whole configuration. Frozen: it is read once and handed down, never global."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        hide_input_in_errors=True,
        frozen=True,
    )

    dicom: Dicom = Field(default_factory=Dicom, description="Our side of the DICOM network.")
    destinations: tuple[Destination, ...] = Field((), description="PACS that get our evidence objects.")
    revisions: Revisions = Field(default_factory=Revisions, description="When a study's state is taken for analysis.")
    analysis: Analysis = Field(default_factory=Analysis, description="How studies are analysed.")
    database: Database = Field(
        default_factory=Database, description="Where the index, the ledger and the workflows live."
    )
    store: Store = Field(default_factory=Store, description="Where instances lie.")
    queues: Queues = Field(default_factory=Queues, description="How much work may wait.")
    retention: Retention = Field(default_factory=Retention, description="How long what is kept.")
    audit: Audit = Field(default_factory=Audit, description="The ledger's own timetable.")
    verification: Verification = Field(
        default_factory=Verification, description="How the archive is compared with what was first seen."
    )
    signatures: Signatures = Field(default_factory=Signatures, description="Digital signatures in DICOM objects.")
    alerts: Alerts = Field(default_factory=Alerts, description="Security events, sent to a webhook at once.")
    access: Access = Field(default_factory=Access, description="Who may use our tools.")
    log: Log = Field(default_factory=Log, description="What goes to standard error.")


def from_layers(*layers: Mapping[str, Any]) -> Settings:
    """Settings from plain data, a later layer over an earlier one; lists are replaced, not joined.

    Raises pydantic.ValidationError.
    """
    settings = Settings.__new__(Settings)
    # Past BaseSettings.__init__, which would put the environment under the layers once more.
    BaseModel.__init__(settings, **overlaid(*layers))
    return settings


def overlaid(*layers: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            under = result.get(key)
            if isinstance(under, Mapping) and isinstance(value, Mapping):
                result[key] = overlaid(under, value)
            else:
                result[key] = value
    return result


def load_settings(path: Path | None = None) -> Settings:
    """Read the YAML file at `path` (none: defaults) and the environment, which wins.

    For a start use `config.check`, which also looks at what the settings point to. Raises ConfigurationRefused when the
    file cannot be read as YAML, pydantic.ValidationError or pydantic_settings.SettingsError when the values do not fit.
    """
    document = Document() if path is None else read_document(path)
    if document.faults:
        raise ConfigurationRefused(document.faults)
    return from_layers(document.data, EnvSettingsSource(Settings)())
