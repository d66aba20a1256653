"""A mail in plain text over SMTP (RFC 5321), with STARTTLS unless the settings say otherwise."""

import smtplib
import ssl
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from email.utils import formatdate

import structlog

from gateway.notices.channel import NotTaken
from gateway.notices.message import Message

log = structlog.get_logger(__name__)


class EmailChannel:
    """One mail server; a mail is taken when it has been accepted for a recipient at least."""

    name = "email"

    def __init__(
        self,
        host: str,
        port: int,
        sender: str,
        recipients: Sequence[str],
        *,
        timeout: float,
        tls: ssl.SSLContext | None,
        login: Callable[[], tuple[str, str]] | None = None,
        include_patient: bool = False,
    ) -> None:
        """`tls`: for STARTTLS; None sends in clear. `login` reads user and password when they are needed."""
        self._address = host, port
        self._sender = sender
        self._recipients = list(recipients)
        self._timeout = timeout
        self._tls = tls
        self._login = login
        self.include_patient = include_patient

    def tell(self, message: Message) -> None:
        name = f"{self._address[0]}:{self._address[1]}"
        try:
            with smtplib.SMTP(*self._address, timeout=self._timeout) as server:
                if self._tls is not None:
                    server.starttls(context=self._tls)
                if self._login is not None:
                    server.login(*self._login())
                refused = server.send_message(mail(message, self._sender, self._recipients))
        except smtplib.SMTPRecipientsRefused as fault:
            raise NotTaken(f"{name}: refuses every recipient", refused=True) from fault
        except smtplib.SMTPResponseException as fault:
            # The server's words may quote the mail; its number says enough.
            raise NotTaken(f"{name}: answers {fault.smtp_code}", refused=fault.smtp_code >= 500) from fault
        except smtplib.SMTPException as fault:
            raise NotTaken(f"{name}: {type(fault).__name__}") from fault
        except ssl.SSLError as fault:
            raise NotTaken(f"{name}: TLS fails: {fault.reason or fault}") from fault
        except OSError as fault:
            raise NotTaken(f"{name}: {fault.strerror or type(fault).__name__}") from fault
        if refused:  # the others have it, and would get it again and again
            log.warning("a mail server refuses recipients", server=name, refused=len(refused))


def mail(message: Message, sender: str, recipients: Sequence[str]) -> EmailMessage:
    """The mail; the same message has the same Message-ID."""
    made = EmailMessage()
    made["Subject"] = f"[Scanwarden] {message.verdict}: study {message.study_uid}"
    made["From"], made["To"] = sender, ", ".join(recipients)
    made["Date"] = formatdate()
    made["Message-ID"] = f"<{message.identifier}@{sender.partition('@')[2]}>"
    made["Auto-Submitted"] = "auto-generated"
    score = "" if message.score is None else f", probability of manipulation {message.score:.2f}"
    lines = [f"{message.verdict}{score}", f"study {message.study_uid}, revision {message.revision}", ""]
    lines += [f"- {reason}" for reason in message.reasons]
    patient = message.patient
    if patient is not None:
        lines += [
            "",
            f"patient {patient.name}, number {patient.identifier}, born {patient.birth_date}, sex {patient.sex}",
            f"accession number {patient.accession_number}",
        ]
    lines += [
        "",
        f"More: scanwarden study {message.study_uid}",
        f"Record {message.seq} of the ledger of {message.installation}. Software result; not a diagnosis.",
    ]
    made.set_content("\n".join(lines) + "\n")
    return made
