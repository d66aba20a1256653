"""What the service writes to its log: structured lines, and nothing of a patient (promise 7)."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent

TALKATIVE = """
import logging, warnings
from config import Settings
from gateway.app import configure_log
configure_log(Settings())
import pydicom, pydicom.config
from pydicom import Dataset
pydicom.config.settings.reading_validation_mode = pydicom.config.WARN
dataset = Dataset()
dataset.add(pydicom.DataElement(0x00100020, "LO", "SECRET" * 40, validation_mode=pydicom.config.WARN))
dataset.add(pydicom.DataElement(0x0020000D, "UI", "SECRET", validation_mode=pydicom.config.WARN))
warnings.warn("a library complains of SECRET")
logging.getLogger("pydicom").error("SECRET")
logging.getLogger("somebody.else").error("this one is heard")
"""


def test_libraries_that_quote_values_are_not_heard_in_the_log() -> None:
    done = subprocess.run([sys.executable, "-c", TALKATIVE], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "this one is heard" in done.stderr
    assert "SECRET" not in done.stdout + done.stderr
