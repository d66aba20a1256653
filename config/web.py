"""The settings of the web role: health, metrics, and studies that arrive over HTTP (STOW-RS)."""

from ipaddress import ip_address, ip_network
from typing import Literal

from pydantic import Field

from config.network import Tls
from config.section import Section
from config.values import Address, AeTitle, Count, FilePath, Host, Port, PositiveSeconds

LOOPBACK = ("127.0.0.0/8", "::1/128")


class StowSource(Section):
    """A sender that may store over HTTP, and how it is known."""

    ae_title: AeTitle = Field(description="The name under which the index and the ledger know it.")
    addresses: tuple[Address, ...] = Field(
        LOOPBACK, min_length=1, description="Addresses or networks (CIDR) that it calls from."
    )
    token_file: FilePath | None = Field(
        None, description="File with the bearer token that it sends, 16 characters or more."
    )
    certificate_subject: str | None = Field(
        None, min_length=1, description="Common name that its TLS client certificate must carry."
    )
    priority: Literal["stat", "routine"] | None = Field(None, description="Priority of its studies; unset: routine.")

    def admits(self, address: str) -> bool:
        """Whether a peer at `address` may speak as this source."""
        try:
            peer = ip_address(address)
        except ValueError:
            return False
        mapped = getattr(peer, "ipv4_mapped", None) or peer
        return any(mapped in ip_network(network, strict=False) for network in self.addresses)

    @property
    def on_this_machine(self) -> bool:
        """Whether it can only call from this machine itself."""
        return all(ip_network(network, strict=False).is_loopback for network in self.addresses)


class Web(Section):
    """The HTTP port: health, metrics, and STOW-RS where it is switched on."""

    host: Host = Field("127.0.0.1", description="Address to listen on; anything but loopback needs a login.")
    port: Port = Field(8080, description="TCP port to listen on.")
    tls: Tls | None = Field(None, description="Certificates; unset: no TLS.")
    token_file: FilePath | None = Field(
        None,
        description="File with the bearer token that `/healthz`, `/readyz` and `/metrics` ask for, 16 characters or "
        "more; unset: none is asked for.",
    )
    max_requests: Count = Field(64, ge=2, description="Connections open at once; one more is answered with 503.")
    check_timeout: PositiveSeconds = Field(5, description="Seconds that each check of `/readyz` may take.")
    stow: bool = Field(False, description="Whether instances are taken over HTTP (`POST /dicom-web/studies`).")
    stow_sources: tuple[StowSource, ...] = Field(
        (), description="Who may store over HTTP. Empty: only this machine itself (loopback)."
    )

    @property
    def on_this_machine(self) -> bool:
        """Whether only this machine itself reaches the port."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() in ("localhost", "ip6-localhost")

    @property
    def asks_who_calls(self) -> bool:
        """Whether nobody gets in without a token or a certificate."""
        return self.token_file is not None or (
            self.tls is not None and self.tls.authorities is not None and self.tls.require_client_certificate
        )
