"""The settings of the DICOM network: our side of it, who may send, and where evidence objects go."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from config.section import Section
from config.values import Address, AeTitle, Age, Bytes, Count, FilePath, Host, Port, PositiveSeconds, Seconds, WebRoot


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

    host: Host | None = Field(
        None,
        description="Where it is called back with the result of a storage commitment; unset: where a destination with "
        "its AE title is, or only on the association that it asked on.",
    )
    port: Port | None = Field(None, description="Its DICOM port, for the call back.")
    tls: Tls | None = Field(None, description="Certificates for the call back; unset: no TLS.")
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
    acceptors: Count = Field(
        2,
        ge=1,
        le=16,
        description="Processes that receive on the port; their limits count together.",
    )
    tls: Tls | None = Field(None, description="Certificates; unset: no TLS.")
    sources: tuple[Source, ...] = Field(
        (), description="Who may send. Empty: any AE title, but only from this machine itself (loopback)."
    )
    max_associations: Count = Field(
        64, ge=1, description="Associations open at once; one more is rejected as transient."
    )
    max_associations_per_source: Count = Field(32, ge=1, description="Associations open at once from one address.")
    failure_limit: Count = Field(
        20,
        ge=0,
        description="Failed attempts of one address (wrong AE title, no TLS, no DICOM) within `failure_window` after "
        "which its connections are closed unread for `failure_pause`; 0: never.",
    )
    failure_window: PositiveSeconds = Field(
        60, description="Seconds within which failed attempts are counted together."
    )
    failure_pause: PositiveSeconds = Field(60, description="Seconds for which an address that fails is refused.")
    failure_exempt: tuple[Address, ...] = Field(
        ("127.0.0.0/8", "::1/128"),
        description="Addresses or networks that are never refused for failing: this machine, and a load balancer or "
        "proxy whose address all senders share.",
    )
    memory_watermark: Bytes = Field(
        1024**3,
        ge=256 * 1024**2,
        description="Memory of all receiving processes of a machine above which new associations are refused, bytes; "
        "they are accepted again below 90 % of it.",
    )
    max_pdu: Bytes = Field(
        131072,
        ge=4096,
        le=1048576,
        description="Largest PDU that we ask for, bytes (PS3.8 D.1). A sender that ignores it is borne up to 1 MiB.",
    )
    max_instance_bytes: Bytes = Field(4 * 1024**3, ge=1024, description="Largest data set we accept, bytes.")
    acse_timeout: PositiveSeconds = Field(
        30, description="Seconds to wait for an association to be agreed or released."
    )
    dimse_timeout: PositiveSeconds = Field(
        60, description="Seconds to wait for the next DIMSE message of an open transfer."
    )
    slowest_rate: Bytes = Field(
        1024,
        ge=0,
        description="Bytes a second that a message must bring on average, once `dimse_timeout` has passed since it "
        "began; a slower sender is cut off. 0: any.",
    )
    idle_timeout: PositiveSeconds = Field(
        120, description="Seconds without a byte after which an association is closed."
    )


class Destination(Section):
    """A PACS that gets our evidence objects."""

    WEB_AE_TITLE: ClassVar[str] = "DICOMWEB"

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="Our name for it, in logs and on the command line."
    )
    ae_title: AeTitle = Field(description="Its AE title; with `dicomweb` it may be left out.")
    host: Host = Field(description="Its host name or address; with `dicomweb` it may be left out.")
    port: Port = Field(description="Its DICOM port; with `dicomweb` it may be left out.")
    profile: str = Field("orthanc", description="Dialect of the evidence objects that this PACS shows well.")
    transport: Literal["dimse", "stow"] | None = Field(
        None, description="C-STORE or STOW-RS; unset: as the profile says, and STOW-RS only where `dicomweb` is set."
    )
    dicomweb: WebRoot | None = Field(
        None, description="Root of its DICOMweb services, such as https://pacs.example/dicom-web."
    )
    authorization_file: FilePath | None = Field(
        None,
        description="File with the value of the Authorization header for `dicomweb`, such as `Bearer …` or `Basic …`; "
        "read for each request; unset: none is sent.",
    )
    tls: Tls | None = Field(
        None,
        description="Certificates for this destination; unset: no TLS for DIMSE, and this machine's authorities for an "
        "https:// `dicomweb`.",
    )
    calling_ae_title: AeTitle | None = Field(None, description="AE title we call with; unset: `dicom.ae_title`.")
    timeout: PositiveSeconds = Field(30, description="Seconds to wait for each of its answers.")
    commitment: bool = Field(
        False, description="Whether an object counts as delivered only when it has committed itself to keep it."
    )
    commitment_timeout: PositiveSeconds = Field(
        3600,
        description="Seconds to wait for its word about a commitment; then it is asked again, and the third time in "
        "vain the object is sent again.",
    )
    attempts: Count = Field(
        12,
        ge=1,
        description="Attempts in which it refuses an object for now, or breaks off in the middle of it, before the "
        "delivery becomes a dead letter. That it cannot be reached, or has no room, is not held against the object.",
    )
    backoff: Seconds = Field(5, description="Seconds before the second attempt; doubles with each one.")
    backoff_limit: Seconds = Field(900, description="Longest pause between two attempts, seconds.")
    circuit_failures: Count = Field(
        3,
        ge=1,
        description="Failures in a row to reach it, or for want of room in it, after which one delivery at a time "
        "tries whether it is back, and the others wait.",
    )
    give_up_after: Age = Field(
        timedelta(days=7), description="Age at which a delivery becomes a dead letter, whatever kept it."
    )

    @model_validator(mode="before")
    @classmethod
    def _address_of_the_web(cls, values: Any) -> Any:
        """One that is only spoken to over HTTP has no AE title; what else names it comes from its URL."""
        if not isinstance(values, dict) or not isinstance(values.get("dicomweb"), str):
            return values
        try:
            parts = urlsplit(values["dicomweb"])
            found = {"host": parts.hostname, "port": parts.port or (443 if parts.scheme == "https" else 80)}
        except ValueError:
            return values
        known = {key: each for key, each in found.items() if each is not None}
        return {"ae_title": cls.WEB_AE_TITLE, **known, **values}
