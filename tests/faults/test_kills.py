"""`kill -9` of the whole service at every point between two steps, and at random: the result is there, once."""

from pathlib import Path

import pytest

from gateway.pipeline.points import Point
from tests.faults.harness import Archive, Gateway, compare, settled, wait_for
from tests.faults.kills import rounds
from tests.faults.modality import STORESCU, make_study, send

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not Path(STORESCU).exists(), reason="storescu is not installed (apt-get install dcmtk)"),
]


@pytest.mark.timeout(600)
def test_a_kill_between_any_two_steps_leaves_one_result(tmp_path: Path) -> None:
    archive = Archive()
    acknowledged: set[str] = set()
    with archive.running():
        gateway = Gateway(tmp_path, [archive])
        for number, point in enumerate(Point):
            study = make_study(tmp_path, edited=True, seed=number)
            files = list(study.files)
            while files:
                gateway.start(kill_at=point)
                # A study that an earlier kill left unfinished may bring the service to this point before we have sent,
                # and the port is open before anybody answers at it: a busy machine may need a second try.
                while files and gateway.alive:
                    acknowledged |= {file.stem for file in send(files, gateway.port)}
                    files = [file for file in files if file.stem not in acknowledged]
                assert gateway.died(60), f"the service never came to {point}:\n{gateway.log()[-3000:]}"
        gateway.start()
        wait_for(lambda: settled(gateway, len(Point)), 120, "every revision is done")
        assert gateway.stop() == 0
        findings = compare(gateway, [archive], acknowledged)
    assert not findings.lost
    assert not findings.faults
    assert len(acknowledged) == 5 * len(Point)
    assert {archive.modalities[uid] for uid in archive.order} == {"SEG", "SR"}


@pytest.mark.timeout(600)
def test_kills_at_random_lose_nothing_and_double_nothing(tmp_path: Path, url: str | None) -> None:
    findings = rounds(4, tmp_path, seed=20261120, url=url)
    assert findings.acknowledged
    assert not findings.lost
    assert not findings.faults
