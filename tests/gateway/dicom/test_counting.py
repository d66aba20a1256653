"""What a receiver counts for `/metrics`, over the network; names and labels stand in docs/operation.md."""

import pytest

from gateway.metrics.measures import REGISTRY
from tests.gateway.dicom.conftest import Modality, Start, mr_image


def test_an_instance_and_a_refusal_are_counted_where_they_are_decided(start: Start) -> None:
    """By the real receiver, over the network."""

    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0

    stored = {"outcome": "stored", "kind": "image", "source": "MODALITY"}
    before = counted("scanwarden_instances_total", **stored)
    refused = counted("scanwarden_instances_refused_total", reason="pixel_data_too_short")
    strangers = counted("scanwarden_associations_refused_total", reason="calling_ae_title")
    gateway = start(sources=[{"ae_title": "MODALITY"}])
    sender = Modality(gateway)
    opened = counted("scanwarden_associations_open")
    assert sender.store(mr_image())[0] == 0
    assert sender.store(mr_image(Rows=4000))[0] == 0xC000
    sender.close()
    other = start(sources=[{"ae_title": "SOMEBODY"}])
    with pytest.raises(AssertionError):
        Modality(other)
    assert counted("scanwarden_instances_total", **stored) == before + 1
    assert counted("scanwarden_instances_refused_total", reason="pixel_data_too_short") == refused + 1
    assert counted("scanwarden_associations_refused_total", reason="calling_ae_title") == strangers + 1
    assert opened >= 1
