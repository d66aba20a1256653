"""Reads audit messages as a collector would: by the schema of PS3.15 A.5.1, and back into records of the ledger."""

import json
from base64 import b64decode
from dataclasses import fields
from functools import cache
from pathlib import Path

from lxml import etree

from storage import LedgerRecord
from storage.audit.ledger import canonical

SCHEMA = Path(__file__).parent / "storage" / "audit" / "audit_message.rng"


@cache
def _schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(str(SCHEMA)))


class Message:
    """A message that the schema admits; AssertionError when it does not."""

    def __init__(self, xml: bytes) -> None:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        self.root = etree.fromstring(xml, parser)
        schema = _schema()
        assert schema.validate(self.root), f"{schema.error_log}\n{xml.decode()}"

    def all(self, path: str) -> list[str]:
        """What an XPath finds, as text."""
        found = self.root.xpath(path)
        assert isinstance(found, list)
        return [str(each) for each in found]

    @property
    def event(self) -> str:
        return self.all("EventIdentification/EventID/@csd-code")[0]

    @property
    def types(self) -> list[str]:
        return self.all("EventIdentification/EventTypeCode/@csd-code")

    @property
    def outcome(self) -> str:
        return self.all("EventIdentification/@EventOutcomeIndicator")[0]

    def details(self, id_type: str) -> dict[str, bytes]:
        """The details of the first object with this ParticipantObjectIDTypeCode."""
        place = f"ParticipantObjectIdentification[ParticipantObjectIDTypeCode/@csd-code='{id_type}']"
        names = self.all(f"({place})[1]/ParticipantObjectDetail/@type")
        values = self.all(f"({place})[1]/ParticipantObjectDetail/@value")
        return {name: b64decode(value) for name, value in zip(names, values, strict=True)}

    @property
    def record(self) -> LedgerRecord:
        """The ledger record that the message carries, rebuilt from its canonical bytes."""
        chain = self.details("ledger-record")
        covered = json.loads(chain["canonical"])
        details = json.dumps(covered["details"], sort_keys=True, separators=(",", ":"))
        hashes = {"previous_hash": chain["previous-hash"].decode(), "hash": chain["hash"].decode()}
        record = LedgerRecord(**{**covered, "details": details, **hashes})
        assert len(fields(record)) == len(covered) + 2
        assert canonical(record) == chain["canonical"]
        return record
