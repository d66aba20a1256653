"""Schema faults: every one at once, each with its key, its value, its line and a remedy."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from config import ConfigurationRefused, Settings, load_settings
from config.check import check
from config.faults import Fault, Report


def only(report: Report) -> Fault:
    assert len(report.faults) == 1, "\n".join(map(str, report.faults))
    return report.faults[0]


def test_the_defaults_have_neither_fault_nor_warning(
    checked: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = check(None, environment={})
    assert (report.faults, report.warnings, report.exit_code) == ((), (), 0)
    assert report.settings == Settings()
    assert checked("").settings == Settings()


def test_a_sound_file_gives_the_settings_that_a_start_reads(checked: Callable[..., Report], tmp_path: Path) -> None:
    report = checked("dicom: {port: 104, sources: [{ae_title: CT1, addresses: [10.0.0.1]}]}")
    settings = report.require()
    assert settings == load_settings(tmp_path / "scanwarden.yaml")
    assert type(settings) is Settings
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - handed to the processes of the roles


def test_every_fault_is_reported_at_once(checked: Callable[..., Report]) -> None:
    report = checked(
        """
dicom:
  ae_title: THIS_AE_TITLE_IS_TOO_LONG
  port: 99999
  sources:
    - ae_title: CT1
      addresses: [10.0.0.300]
    - addresses: [10.0.0.1]
destinations:
  - {name: archive, ae_title: PACS, host: pacs.example, port: 104, profile: nothing}
revisions: {quiet_period: soon}
store: {low_watermark: 0.95}
""",
        environment={"SCANWARDEN_LOG__LEVEL": "loud"},
        known_profiles={"orthanc"},
    )
    assert report.settings is None
    assert report.exit_code == 1
    assert {fault.key for fault in report.faults} == {
        "dicom.ae_title",
        "dicom.port",
        "dicom.sources[0].addresses[0]",
        "dicom.sources[1].ae_title",
        "destinations[0].profile",
        "revisions.quiet_period",
        "store.low_watermark",
        "log.level",
    }
    assert all(fault.problem and fault.remedy and fault.where for fault in report.faults)


def test_a_fault_names_the_file_and_line_or_the_variable(checked: Callable[..., Report]) -> None:
    assert only(checked("dicom:\n  port: 0\n")).where == "scanwarden.yaml line 2"
    assert only(checked("", {"SCANWARDEN_DICOM__PORT": "0"})).where == "SCANWARDEN_DICOM__PORT"


@pytest.mark.parametrize(
    ("text", "key", "value", "remedy"),
    [
        ("dicom: {port: 99999}", "dicom.port", "99999", "a whole number from 1 to 65535"),
        ("dicom: {port: eleven}", "dicom.port", '"eleven"', "a whole number from 1 to 65535"),
        ("dicom: {port: 104.5}", "dicom.port", "104.5", "a whole number from 1 to 65535"),
        ("dicom: {host: 'a b'}", "dicom.host", '"a b"', "without port and brackets"),
        ("dicom: {host: '[::1]'}", "dicom.host", '"[::1]"', "without port and brackets"),
        ("analysis: {device: gpu}", "analysis.device", '"gpu"', "one of auto, cpu, cuda"),
        ("analysis: {device: Cuda}", "analysis.device", '"Cuda"', "did you mean cuda?"),
        ("analysis: {models: []}", "analysis.models", "a list of 0 entries", "at least one"),
        ("analysis: {memory_limit: 6 GiB}", "analysis.memory_limit", '"6 GiB"', "a whole number of bytes"),
        ("revisions: {quiet_period: -1}", "revisions.quiet_period", "-1", "a number of seconds from 0"),
        ("revisions: {quiet_period: .inf}", "revisions.quiet_period", "inf", "a number of seconds"),
        ("revisions: {quiet_period: .nan}", "revisions.quiet_period", "nan", "a number of seconds"),
        ("retention: {instances: 90}", "retention.instances", "90", "an age with its unit"),
        ("retention: {instances: -90d}", "retention.instances", '"-90d"', "an age with its unit"),
        ("log: {format: xml}", "log.format", '"xml"', "one of console, json"),
        ("log:", "log", "nothing", "remove the key"),
        ("log: console", "log", '"console"', "level, format"),
        ("destinations: archive", "destinations", '"archive"', "a list of groups of keys"),
        ("destinations: [archive]", "destinations[0]", '"archive"', "name, ae_title, host, port"),
        (
            "destinations: [{name: Archive 1, ae_title: A, host: h, port: 104}]",
            "destinations[0].name",
            '"Archive 1"',
            "lower-case letters",
        ),
        (
            "destinations: {name: archive, ae_title: A, host: h, port: 104}",
            "destinations",
            "a group of 4 keys",
            "`- name: …`",
        ),
        (
            "destinations: [{name: a, ae_title: A, host: h, port: 104, dicomweb: pacs.example/dicom-web}]",
            "destinations[0].dicomweb",
            '"pacs.example/dicom-web"',
            "such as https://pacs.example/dicom-web",
        ),
        (
            "notification: {hl7: {host: h, sending_facility: A&B}}",
            "notification.hl7.sending_facility",
            '"A&B"',
            "dots",
        ),
        (
            "notification: {email: {host: h, sender: nobody, recipients: [a@h.example]}}",
            "notification.email.sender",
            '"nobody"',
            "a mail address",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_answered_with_what_fits(
    checked: Callable[..., Report], text: str, key: str, value: str, remedy: str
) -> None:
    fault = only(checked(text))
    assert (fault.key, fault.value) == (key, value)
    assert remedy in fault.remedy


def test_text_that_yaml_reads_as_something_else_is_to_be_quoted(checked: Callable[..., Report]) -> None:
    fault = only(checked("dicom: {ae_title: NO}"))
    assert fault.problem == "is read by YAML as true or false"
    assert fault.remedy == 'put it in quotes: "NO"'
    assert only(checked("dicom: {ae_title: 0123}")).remedy == 'put it in quotes: "0123"'


def test_a_leading_zero_does_not_make_a_number_octal(checked: Callable[..., Report]) -> None:
    report = checked("dicom: {port: 0104}")
    assert report.settings is not None
    assert report.settings.dicom.port == 104


def test_yes_does_not_pass_for_the_number_one(checked: Callable[..., Report]) -> None:
    assert only(checked("dicom: {max_associations: yes}")).problem == "is true or false, not a number"


@pytest.mark.parametrize(
    ("text", "key", "remedy"),
    [
        ("dicom: {prot: 104}", "dicom.prot", "did you mean `port`?"),
        ("dicom: {AE-Title: X}", "dicom.AE-Title", "did you mean `ae_title`?"),
        ("dcom: {port: 104}", "dcom", "did you mean `dicom`?"),
        ("quiet_period: 5", "quiet_period", "did you mean revisions.quiet_period?"),
        ("dicom: {quiet_period: 5}", "dicom.quiet_period", "did you mean revisions.quiet_period?"),
        ("dicom: {zzzz: 1}", "dicom.zzzz", "here may stand: ae_title, host, port"),
        ("_env_file: x", "_env_file", "remove it"),
    ],
)
def test_an_unknown_key_is_a_fault_that_says_what_was_meant(
    checked: Callable[..., Report], text: str, key: str, remedy: str
) -> None:
    fault = only(checked(text))
    assert (fault.key, fault.problem) == (key, "is no key that we know")
    assert remedy in fault.remedy


def test_a_missing_key_is_named_with_what_belongs_there(checked: Callable[..., Report]) -> None:
    report = checked("destinations: [{name: archive, ae_title: PACS}]")
    assert [(fault.key, fault.remedy) for fault in report.faults] == [
        (
            "destinations[0].host",
            "add `host:` with a host name or an address, without port and brackets, such as pacs.example or ::1",
        ),
        ("destinations[0].port", "add `port:` with a whole number from 1 to 65535"),
    ]


def test_a_fault_in_one_entry_does_not_hide_those_of_the_next(checked: Callable[..., Report]) -> None:
    report = checked(
        """
destinations:
  - {name: one, ae_title: A, host: pacs.example, port: nothing}
  - {name: two, ae_title: B, host: pacs.example, port: 104}
  - {name: two, ae_title: C, host: pacs.example, port: 104}
"""
    )
    assert [fault.key for fault in report.faults] == ["destinations[0].port", "destinations[2].name"]
    assert report.faults[1].problem == "is the name of destinations[1] too"


def test_a_value_that_is_itself_at_fault_is_not_compared_with_others(checked: Callable[..., Report]) -> None:
    report = checked("store: {high_watermark: 1.5, low_watermark: 0.92}")
    assert [fault.key for fault in report.faults] == ["store.high_watermark"]


def test_the_list_of_faults_is_what_an_exception_says() -> None:
    report = check(Path("/nonexistent/scanwarden.yaml"), environment={})
    with pytest.raises(ConfigurationRefused, match="the configuration file does not exist; name an existing file"):
        report.require()
