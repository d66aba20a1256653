"""The settings of the DICOM network: our side of it, who may send, and where evidence objects go."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal

from pydantic import Field

from config.section import Section
from config.values import Address, AeTitle, Bytes, Count, FilePath, Host, Port, PositiveSeconds, Seconds


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
