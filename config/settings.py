"""Every setting of Scanwarden, typed, with its unit, its default and what it is for.

One YAML file, then environment variables (`SCANWARDEN_DATABASE__URL`, two underscores between levels) on top. Secrets
never stand in the file: a password comes from the environment or from a file that the setting names.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from config.document import Document, read_document
from config.faults import ConfigurationRefused
from config.forwarding import Commitment, Forwarding, Route
from config.network import Destination, Dicom, Source, Tls
from config.notification import Notification
from config.priors import Priors
from config.profiles import OwnProfile
from config.proof import S3, Access, Alerts, Audit, Collector, OurSignature, Person, Signatures, Verification
from config.rules import Rule
from config.section import Section
from config.values import (
    Age,
    Bytes,
    Count,
    FilePath,
    FolderPath,
    PositiveSeconds,
    Seconds,
    Share,
)
from config.web import StowSource, Web

__all__ = [
    "ENVIRONMENT_PREFIX",
    "S3",
    "Access",
    "Alerts",
    "Analysis",
    "Audit",
    "Collector",
    "Commitment",
    "Database",
    "Destination",
    "Dicom",
    "Forwarding",
    "Log",
    "Notification",
    "OurSignature",
    "OwnProfile",
    "Person",
    "Priors",
    "Queues",
    "Retention",
    "Revisions",
    "Role",
    "Route",
    "Rule",
    "Section",
    "Settings",
    "Signatures",
    "Source",
    "Store",
    "StowSource",
    "Tls",
    "Verification",
    "Web",
    "from_layers",
    "load_settings",
    "overlaid",
]

ENVIRONMENT_PREFIX = "SCANWARDEN_"


class Role(StrEnum):
    """What a process does; `serve` starts them all unless told otherwise."""

    RECEIVE = "receive"
    ANALYSE = "analyse"
    DELIVER = "deliver"
    TIMETABLE = "timetable"
    WEB = "web"


class Revisions(Section):
    """When a study's state is taken for analysis (a study is never complete)."""

    quiet_period: Seconds = Field(60, description="Seconds without a new instance that close a revision.")
    hard_limit: Seconds = Field(
        1800, description="Seconds after its first instance that close a revision at the latest."
    )
    sweep_interval: PositiveSeconds = Field(1, description="Seconds between two looks for revisions to close.")


class Analysis(Section):
    """How studies are analysed."""

    models: tuple[str, ...] = Field(
        ("edit-unet",), min_length=1, description="The models that look for edits, by registry name."
    )
    image_model: str = Field(
        "auto",
        min_length=1,
        description="The model that looks at whole images (organ, generated or not), by registry name; auto: the one "
        "that ships, where its weights are here; none: none.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where networks run; auto: a GPU when there is one."
    )
    batch: Count = Field(8, ge=1, description="Slices in a batch.")
    threads: Count = Field(0, ge=0, description="CPU threads of a network; 0: one for each core.")
    memory_limit: Bytes = Field(
        6 * 1024**3, ge=2 * 1024**3, description="Bytes of memory that an analysing process may take."
    )
    decoder_memory: Bytes = Field(
        3 * 1024**3,
        ge=1024**3,
        description="Bytes of memory that the process may take that decodes pixels; an instance that needs more is "
        "not analysed.",
    )
    decoder_timeout: PositiveSeconds = Field(
        60, description="Seconds for decoding one frame, or for the digests of one instance; above it we abstain."
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
    deliveries: Count = Field(
        4, ge=1, description="Deliveries to one destination that run at once in one deliver process."
    )
    polling_interval: PositiveSeconds = Field(0.5, description="Seconds between two looks into a workflow queue.")


class Retention(Section):
    """How long what is kept; the ledger is never shortened by it."""

    instances: Age | None = Field(None, description="Age at which received instances are deleted; unset: never.")
    evidence: Age | None = Field(None, description="Age at which delivered evidence objects are deleted; unset: never.")
    sweep_interval: PositiveSeconds = Field(3600, description="Seconds between two looks for what is past its age.")


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
    profiles: tuple[OwnProfile, ...] = Field((), description="Profiles of yours, beside those that come along.")
    rules: tuple[Rule, ...] = Field(
        (), description="What is analysed, how soon, and for whom; the first rule that matches a series decides."
    )
    priors: Priors = Field(default_factory=Priors, description="Earlier studies of a patient that rules ask for.")
    revisions: Revisions = Field(default_factory=Revisions, description="When a study's state is taken for analysis.")
    analysis: Analysis = Field(default_factory=Analysis, description="How studies are analysed.")
    database: Database = Field(
        default_factory=Database, description="Where the index, the ledger and the workflows live."
    )
    store: Store = Field(default_factory=Store, description="Where instances lie.")
    queues: Queues = Field(default_factory=Queues, description="How much work may wait.")
    forwarding: Forwarding = Field(default_factory=Forwarding, description="What is passed on as it came.")
    commitment: Commitment = Field(default_factory=Commitment, description="Storage commitment, both ways.")
    retention: Retention = Field(default_factory=Retention, description="How long what is kept.")
    audit: Audit = Field(default_factory=Audit, description="The ledger's own timetable.")
    verification: Verification = Field(
        default_factory=Verification, description="How the archive is compared with what was first seen."
    )
    signatures: Signatures = Field(default_factory=Signatures, description="Digital signatures in DICOM objects.")
    alerts: Alerts = Field(default_factory=Alerts, description="Security events, sent to a webhook at once.")
    notification: Notification = Field(default_factory=Notification, description="Who is told of a suspect study.")
    access: Access = Field(default_factory=Access, description="Who may use our tools.")
    web: Web = Field(default_factory=Web, description="The HTTP port: health, metrics, and STOW-RS.")
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
