"""The settings on their way from the supervisor to a role: through a pipe, complete, read once.

A file or an environment that changes while the service runs changes nothing: every process works with what the
supervisor was started with, also one that is started again weeks later.
"""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_core import to_jsonable_python

from config import Settings
from config.settings import from_layers


def hand_down(settings: Settings) -> str:
    """The effective settings as JSON, secrets in clear: for a pipe between two processes of ours, never for a file."""
    return json.dumps(_plain(settings))


def take_over(text: str) -> Settings:
    """The settings that `hand_down` wrote; every key is given, so that neither file nor environment is asked again."""
    return from_layers(json.loads(text))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, timedelta):
        return to_jsonable_python(value)  # ISO 8601
    return str(value) if isinstance(value, Path) else value
