"""Copies that reach the real service over the network: counted, kept apart, and told to the ledger (promise 4)."""

import json
from pathlib import Path
from typing import Any

from pydicom import dcmread, dcmwrite
from pydicom.uid import generate_uid
from sqlalchemy import select

from storage.tables import Instance, InstanceState
from tests.faults.harness import Gateway, settled, wait_for
from tests.faults.modality import make_study, send


def test_a_repeat_is_counted_other_pixels_are_an_incident_with_its_place_and_a_second_uid_is_noted(
    tmp_path: Path,
) -> None:
    study = make_study(tmp_path, edited=False)
    repeat, altered, renamed = study.files[0], tmp_path / "altered.dcm", tmp_path / "renamed.dcm"
    dataset = dcmread(study.files[1])
    pixels = dataset.pixel_array.copy()
    pixels[5:9, 30:40] += 7
    dataset.PixelData = pixels.tobytes()
    dcmwrite(altered, dataset, enforce_file_format=True)
    dataset = dcmread(study.files[2])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dcmwrite(renamed, dataset, enforce_file_format=True)
    gateway = Gateway(tmp_path)
    gateway.start()
    try:
        assert len(send([*study.files, repeat, altered, renamed], gateway.port)) == 8  # success for every one
        wait_for(lambda: settled(gateway, 1), 90, "the study is analysed")
        with gateway.app() as app, app.database.reading() as session:
            rows = list(session.scalars(select(Instance).order_by(Instance.id)))
            records = {each.event: json.loads(each.details) for each in app.ledger.list(limit=None)}
    finally:
        gateway.kill()
    assert [row.state for row in rows if row.state is not InstanceState.STORED] == [InstanceState.QUARANTINED]
    assert len(rows) == 7  # the repeat is no row and no file of its own
    assert [row.repeats for row in rows] == [1, 0, 0, 0, 0, 0, 0]
    incident: dict[str, Any] = records["instance-quarantined"]
    assert (incident["difference_rows"], incident["difference_columns"]) == ([5, 9], [30, 40])
    assert records["pixels-repeated"]["first_instances"] == [study.files[2].stem]
