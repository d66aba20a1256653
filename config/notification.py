"""The settings of notification: who is told that a study is suspect, and how."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from config.section import Section
from config.values import Age, Count, FilePath, Form, Host, MailAddress, Port, PositiveSeconds, Seconds, WebAddress

_PATIENT = (
    "Whether patient's name, number, birth date and sex, and the accession number, go with it; they come from the "
    "images' headers."
)
Hl7Name = Annotated[
    str,
    Field(max_length=20, pattern=r"^[A-Za-z0-9_. -]*$"),
    Form("at most 20 letters, digits, spaces, dots, _ or -"),
]
_SIGNED_BY = "PEM file with the authorities of the receiver's certificate; unset: those of this machine."


class NoticeWebhook(Section):
    """A signed POST, in the form of an alert (docs/signatures-and-access.md)."""

    url: WebAddress = Field(description="Where it is posted: https://…, or http://… on this machine.")
    secret_file: FilePath = Field(description="File with the secret, 32 bytes or more, that signs it (HMAC-SHA256).")
    authorities: FilePath | None = Field(None, description=_SIGNED_BY)
    include_patient: bool = Field(False, description=_PATIENT)
    timeout: PositiveSeconds = Field(10, description="Seconds to wait for the receiver's answer.")


class NoticeHl7(Section):
    """An HL7 v2 message ORU^R01 over MLLP."""

    host: Host = Field(description="Host name or address of the receiver.")
    port: Port = Field(2575, description="Its port.")
    tls: bool = Field(False, description="Whether it is spoken to over TLS.")
    authorities: FilePath | None = Field(None, description=_SIGNED_BY)
    sending_facility: Hl7Name = Field("", description="MSH-4.")
    receiving_application: Hl7Name = Field("", description="MSH-5.")
    receiving_facility: Hl7Name = Field("", description="MSH-6.")
    include_patient: bool = Field(False, description=_PATIENT)
    timeout: PositiveSeconds = Field(10, description="Seconds to wait for its acknowledgement.")


class NoticeEmail(Section):
    """A mail in plain text."""

    host: Host = Field(description="Host name or address of the mail server.")
    port: Port = Field(587, description="Its port.")
    starttls: bool = Field(True, description="Whether the connection is encrypted before anything is said.")
    authorities: FilePath | None = Field(None, description=_SIGNED_BY)
    user: str | None = Field(None, min_length=1, description="User at the mail server; unset: no login.")
    password_file: FilePath | None = Field(None, description="File with the user's password.")
    sender: MailAddress = Field(description="Address that it comes from.")
    recipients: tuple[str, ...] = Field(min_length=1, description="Addresses that it goes to.")
    include_patient: bool = Field(False, description=_PATIENT)
    timeout: PositiveSeconds = Field(20, description="Seconds to wait for each of its answers.")


class Notification(Section):
    """Who is told of a verdict; each channel by itself, until its receiver has confirmed."""

    minimum_verdict: Literal["REVIEW", "SUSPECT"] = Field("SUSPECT", description="Least grave verdict that is told.")
    webhook: NoticeWebhook | None = Field(None, description="A signed POST; unset: none.")
    hl7: NoticeHl7 | None = Field(None, description="An HL7 v2 ORU^R01 over MLLP; unset: none.")
    email: NoticeEmail | None = Field(None, description="A mail; unset: none.")
    interval: PositiveSeconds = Field(2, description="Seconds between two looks for something to tell.")
    attempts: Count = Field(
        12,
        ge=1,
        description="Times that a receiver may answer no (HL7 AE or AR, HTTP 4xx, SMTP 5xx) before it is given up.",
    )
    backoff: Seconds = Field(5, description="Seconds before the second attempt; doubles with each one.")
    backoff_limit: Seconds = Field(300, description="Longest pause between two attempts, seconds.")
    give_up_after: Age = Field(timedelta(days=7), description="Age at which a notice becomes a dead letter.")
