"""Runs a model over genuine and tampered images of one split and writes down what it said; judges nothing.

What is written down of each case is enough for every figure of a report, so that nothing has to be looked at twice.
"""

from models.trials.records import PIXEL_THRESHOLDS, Plan, ScanTrial, Shown, SliceTrial, StudyTrial, Trials
from models.trials.running import run

__all__ = ["PIXEL_THRESHOLDS", "Plan", "ScanTrial", "Shown", "SliceTrial", "StudyTrial", "Trials", "run"]
