"""Values that are sound alone and contradict each other."""

from collections.abc import Callable

import pytest

from config.faults import Report


def faults(report: Report) -> dict[str, str]:
    return {fault.key: fault.problem for fault in report.faults}


def warnings(report: Report) -> dict[str, str]:
    return {warning.key: warning.problem for warning in report.warnings}


def destination(name: str = "archive", **keys: object) -> str:
    values = {"name": name, "ae_title": "PACS", "host": "pacs.example", "port": 104, **keys}
    return "{" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"


def collector(name: str = "siem", **keys: object) -> str:
    values = {"name": name, "host": "siem.example", "transport": "tcp", **keys}
    return "{" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("store: {low_watermark: 0.9}", "store.low_watermark"),
        ("store: {low_watermark: 0.95}", "store.low_watermark"),
        ("queues: {low_watermark: 500}", "queues.low_watermark"),
        ("revisions: {hard_limit: 59}", "revisions.hard_limit"),
        ("retention: {instances: PT2700S}", "retention.instances"),
        ("analysis: {models: [edit-unet, edit-unet]}", "analysis.models"),
        (f"destinations: [{destination()}, {destination(port=105)}]", "destinations[1].name"),
        (f"destinations: [{destination(backoff=901)}]", "destinations[0].backoff"),
        ("dicom: {sources: [{ae_title: A, certificate_subject: a}]}", "dicom.sources[0].certificate_subject"),
        ("verification: {archive: pacs}", "verification.archive"),
        ("verification: {move_port: 11113}", "verification.move_ae_title"),
        ("verification: {move_ae_title: VERIFY, move_port: 11112}", "verification.move_port"),
        (f"audit: {{collectors: [{collector(transport='tls')}]}}", "audit.collectors[0].tls"),
        (f"audit: {{collectors: [{collector()}, {collector()}]}}", "audit.collectors[1].name"),
        (f"audit: {{collectors: [{collector(confirmation='close-notify')}]}}", "audit.collectors[0].confirmation"),
    ],
)
def test_a_contradiction_is_a_fault(checked: Callable[..., Report], text: str, key: str) -> None:
    assert list(faults(checked(text))) == [key]


@pytest.mark.parametrize(
    "text",
    [
        "store: {low_watermark: 0.89}",
        "queues: {low_watermark: 499}",
        "revisions: {hard_limit: 60}",
        "retention: {instances: 2d}",
        f"destinations: [{destination()}, {destination('other', port=105)}]",
        f"destinations: [{destination(backoff=900)}]",
        "dicom: {sources: [{ae_title: A, addresses: [10.0.0.1]}, {ae_title: A, addresses: [10.0.0.2]}]}",
        "dicom: {sources: [{ae_title: A, addresses: [10.0.0.0/8]}, {ae_title: A, addresses: ['fd00::/8']}]}",
    ],
)
def test_values_that_agree_are_neither_fault_nor_warning(checked: Callable[..., Report], text: str) -> None:
    report = checked(text)
    assert (report.faults, report.warnings) == ((), ())


def test_two_sources_that_contradict_each_other_are_a_fault(checked: Callable[..., Report]) -> None:
    report = checked(
        """
dicom:
  sources:
    - {ae_title: MR1, addresses: [10.0.0.0/8], priority: stat}
    - {ae_title: MR1, addresses: [10.1.2.3], priority: routine}
"""
    )
    assert "contradicts dicom.sources[0]" in faults(report)["dicom.sources[1]"]


def test_a_source_that_is_listed_twice_is_a_warning(checked: Callable[..., Report]) -> None:
    report = checked("dicom: {sources: [{ae_title: A, addresses: [10.0.0.0/8]}, {ae_title: A, addresses: [10.0.0.1]}]}")
    assert not report.faults
    assert "dicom.sources[0] admits already" in warnings(report)["dicom.sources[1]"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("dicom: {sources: [{ae_title: A, addresses: [0.0.0.0/0]}]}", "dicom.sources[0].addresses[0]"),
        ("dicom: {sources: [{ae_title: A, addresses: [10.0.0.5/24]}]}", "dicom.sources[0].addresses[0]"),
        ("dicom: {max_associations: 8}", "dicom.max_associations_per_source"),
        ("retention: {evidence: PT1H}", "retention.evidence"),
        ("retention: {instances: PT20H}", "retention.instances"),
        (f"destinations: [{destination()}, {destination('other')}]", "destinations[1]"),
        (f"destinations: [{destination(ae_title='SCANWARDEN')}]", "destinations[0].ae_title"),
    ],
)
def test_what_may_be_meant_but_surprises_is_a_warning(checked: Callable[..., Report], text: str, key: str) -> None:
    report = checked(text)
    assert not report.faults
    assert list(warnings(report)) == [key]


def test_names_are_compared_with_those_that_exist(checked: Callable[..., Report]) -> None:
    text = f"analysis: {{models: [edit-unet, nothing]}}\ndestinations: [{destination(profile='nowhere')}]"
    report = checked(text, known_profiles={"orthanc", "plain"}, known_models={"edit-unet"})
    assert {fault.key: fault.remedy for fault in report.faults} == {
        "analysis.models[1]": "give one of: edit-unet",
        "destinations[0].profile": "give one of: orthanc, plain",
    }
    assert not checked(text).faults


def test_an_audit_trail_without_tls_is_a_warning(checked: Callable[..., Report]) -> None:
    report = checked(f"audit: {{collectors: [{collector()}, {collector('other')}]}}")
    assert report.faults == ()
    assert list(warnings(report)) == ["audit.collectors[0].transport", "audit.collectors[1].transport"]
