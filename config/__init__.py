"""The settings of the service: one typed schema, one file, one reference of every key. Imports nothing of ours."""

from config.settings import Settings, load_settings

__all__ = ["Settings", "load_settings"]
