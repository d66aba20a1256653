"""`/metrics`: what every process counted, added up; never a UID, never an unbounded label, never a reason to fail."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert

from gateway import metrics
from gateway.metrics.measures import MOST_VALUES, REGISTRY, Counters, Stage
from gateway.metrics.snapshots import Publisher, folder, forget_the_dead, merged, read_snapshots
from storage import AuditEvent, AuditEventType
from storage.tables import Analysis, Delivery, Evidence, Revision, Study
from tests.gateway.dicom.conftest import mr_image
from tests.gateway.web.conftest import Start, Web, part10

REPOSITORY = Path(__file__).resolve().parents[3]
COUNT = """
import sys
from pathlib import Path
from gateway import metrics
from gateway.metrics.snapshots import Publisher
publisher = Publisher(Path(sys.argv[1]), sys.argv[2])
for _ in range(int(sys.argv[3])):
    metrics.instance_received("stored", "image", "CT1", 1000, 0.02)
metrics.association_opened("CT1")
publisher.publish()
"""


def samples(page: bytes | str) -> dict[str, float]:
    """Every sample of a page, by `name{label=value,…}`, as Prometheus' own parser reads it."""
    text = page.decode() if isinstance(page, bytes) else page
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def another_process_counts(where: Path, name: str, times: int) -> None:
    subprocess.run([sys.executable, "-c", COUNT, str(where), name, str(times)], cwd=REPOSITORY, check=True)


def test_what_processes_counted_is_added_up_and_survives_them(web: Web) -> None:
    where = folder(web.app.settings)
    another_process_counts(where, "receive", 3)
    another_process_counts(where, "receive", 4)  # the same role, started again
    another_process_counts(where, "web", 5)
    page = samples(web.ask("/metrics").body)
    labels = "{kind=image,outcome=stored,source=CT1}"
    assert page[f"scanwarden_instances_total{labels}"] == 12
    assert page[f"scanwarden_received_bytes_total{labels}"] == 12_000
    assert page["scanwarden_stage_seconds_count{stage=receive}"] == 12
    assert page["scanwarden_stage_seconds_bucket{le=0.025,stage=receive}"] == 12
    assert page["scanwarden_stage_seconds_bucket{le=0.01,stage=receive}"] == 0
    assert "scanwarden_associations_open" not in page  # nobody lives who has one open


def test_a_new_start_forgets_the_dead_and_no_one_else(tmp_path: Path) -> None:
    another_process_counts(tmp_path, "receive", 3)
    Publisher(tmp_path, "analyse").publish()
    (tmp_path / "torn.prom").write_bytes(b"# pid 1\nscanw{")
    forget_the_dead(tmp_path)
    assert [(each.name, each.pid) for each in read_snapshots(tmp_path)] == [("analyse", os.getpid())]
    forget_the_dead(tmp_path / "absent")


def test_a_folder_that_cannot_be_written_costs_the_figures_and_not_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    publisher = Publisher(tmp_path / "file", "receive")
    with publisher.running():
        publisher.publish()
    assert read_snapshots(tmp_path / "file") == []
    assert merged([]) == []


def test_labels_are_bounded_whatever_happens() -> None:
    registry = CollectorRegistry()
    counters = Counters(Counter("refused", "Refused.", ("where", "reason"), registry=registry))
    for number in range(3 * MOST_VALUES):
        counters.of("here", f"reason-{number}").inc()
    (family,) = registry.collect()
    counted = {sample.labels["reason"]: sample.value for sample in family.samples if sample.name == "refused_total"}
    assert len(counted) == MOST_VALUES + 1
    assert counted["other"] == 2 * MOST_VALUES


def test_what_waits_is_told_by_queue_state_and_destination(start: Start) -> None:
    web = start({"destinations": [{"name": "pacs", "ae_title": "P", "host": "p", "port": 104}]})
    old = datetime.now(UTC) - timedelta(hours=2)
    with web.app.database.transaction() as session:
        for number, state in enumerate(("CLOSED", "CLOSED", "ANALYSED", "DONE", "FAILED"), start=1):
            session.execute(insert(Study).values(study_uid=f"1.{number}", first_instance_at=old))
            session.add(
                Revision(
                    study_uid=f"1.{number}", number=1, state=state, priority="routine", opened_at=old,
                    last_instance_at=old, closed_at=old,
                )
            )  # fmt: skip
        session.flush()
        analysis = Analysis(
            revision_id=1, model_set="0" * 64, state="DONE", started_at=old, reasons=[], findings=0
        )  # fmt: skip
        session.add(analysis)
        session.flush()
        for number, (destination, state) in enumerate(
            [("pacs", "WAITING"), ("pacs", "SENT"), ("pacs", "DELIVERED"), ("gone-1", "DEAD"), ("gone-2", "DEAD")]
        ):
            evidence = Evidence(
                analysis_id=analysis.id, profile="orthanc", kind="SR", sop_instance_uid=f"2.{number}",
                sop_class_uid="1.2", series_uid="1.3", path="x", size=1, file_sha256="0" * 64, created_at=old,
            )  # fmt: skip
            session.add(evidence)
            session.flush()
            session.add(Delivery(evidence_id=evidence.id, destination=destination, state=state, planned_at=old))
    web.app.ledger.record(AuditEvent(AuditEventType.APPLICATION_STARTED, "scanwarden:test"))
    page = samples(web.ask("/metrics").body)
    assert page["scanwarden_queue_depth{queue=analyse}"] == 2
    assert page["scanwarden_queue_depth{queue=encode}"] == 1
    assert page["scanwarden_queue_depth{queue=deliver}"] == 2  # one is sent and not committed
    assert page["scanwarden_revisions{state=failed}"] == 1
    assert 7200 <= page["scanwarden_oldest_unanalysed_revision_seconds"] < 7300
    assert page["scanwarden_deliveries{destination=pacs,state=delivered}"] == 1
    assert page["scanwarden_deliveries{destination=other,state=dead}"] == 2
    assert page["scanwarden_ledger_records"] == page["scanwarden_ledger_records_unsigned"] == 1
    assert page["scanwarden_disk_free_bytes"] > 0
    assert page["scanwarden_database_up"] == 1


def test_a_database_that_is_away_leaves_the_rest_of_the_page(web: Web) -> None:
    (web.app.store.root / "scanwarden.sqlite").unlink()
    (web.app.store.root / "scanwarden.sqlite").mkdir()
    page = samples(web.ask("/metrics").body)
    assert page["scanwarden_database_up"] == 0
    assert "scanwarden_disk_free_bytes" in page
    assert "scanwarden_ledger_records" not in page


def test_no_uid_and_no_patient_stands_on_the_page(store_with_one: Web) -> None:
    page = store_with_one.ask("/metrics").body.decode()
    assert samples(page)["scanwarden_queue_depth{queue=analyse}"] == 0
    assert not re.search(r"\d+\.\d+\.\d+\.\d+\.\d+", page)
    assert "Secret" not in page


@pytest.fixture
def store_with_one(start: Start) -> Web:
    """An application that has taken an instance, with its own counts published."""
    web = start(stow=True)
    assert web.stow(part10(mr_image())).status == 200
    Publisher(folder(web.app.settings), "web").publish()
    return web


def test_a_clock_that_was_set_back_is_no_negative_time() -> None:
    before = REGISTRY.get_sample_value("scanwarden_stage_seconds_sum", {"stage": "quiet"}) or 0
    metrics.stage_took(Stage.QUIET, -100)
    assert REGISTRY.get_sample_value("scanwarden_stage_seconds_sum", {"stage": "quiet"}) == before
