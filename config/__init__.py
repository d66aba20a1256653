"""The settings of the service: one typed schema, one file, one reference of every key. Imports nothing of ours.

`check` is the way in for a start: it says everything that is wrong at once. `load_settings` only reads.
"""

from config.faults import ConfigurationRefused, Fault, Report
from config.settings import Settings, load_settings

__all__ = ["ConfigurationRefused", "Fault", "Report", "Settings", "load_settings"]
