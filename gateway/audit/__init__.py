"""The audit trail's way out: syslog to collectors (IHE ITI-20), from the ledger's own records."""
