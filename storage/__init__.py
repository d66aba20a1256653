"""What must not be lost: instance files, the database and the audit ledger. Imports config only.

What arrives goes through `InstanceStore.incoming` and `Index.record`. What happens to a study afterwards stands in
modules that are used by name: `studies` (revisions), `analyses`, `baselines`, `deliveries`, `processes` (heartbeats and
leases), `overview`, `sweeping` and `retention`. `digests` decodes pixels and is therefore for the analyse role only.
"""

from storage.audit import AuditEvent, AuditEventType, AuditOutcome, Ledger, LedgerRecord, peer_actor, role_actor
from storage.database import Database, open_database, workflow_database_url
from storage.errors import (
    DatabaseUnavailable,
    InstanceRefused,
    NotFound,
    PixelsUnreadable,
    SchemaMismatch,
    StorageError,
    StoreFault,
    StoreFull,
)
from storage.indexing import Index
from storage.instances import InstanceStore, StoredFile, Upload, open_store
from storage.reception import Disposition, InstanceFacts, Outcome, record_instance, record_instances
from storage.tables import InstanceKind, InstanceState, Priority

__all__ = [
    "AuditEvent",
    "AuditEventType",
    "AuditOutcome",
    "Database",
    "DatabaseUnavailable",
    "Disposition",
    "Index",
    "InstanceFacts",
    "InstanceKind",
    "InstanceRefused",
    "InstanceState",
    "InstanceStore",
    "Ledger",
    "LedgerRecord",
    "NotFound",
    "Outcome",
    "PixelsUnreadable",
    "Priority",
    "SchemaMismatch",
    "StorageError",
    "StoreFault",
    "StoreFull",
    "StoredFile",
    "Upload",
    "open_database",
    "open_store",
    "peer_actor",
    "record_instance",
    "record_instances",
    "role_actor",
    "workflow_database_url",
]
