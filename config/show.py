"""The settings in effect, without secrets, each with the line or variable that set it."""

from typing import Any

import yaml

from config.document import written
from config.faults import Report, shown_url
from config.settings import Settings


def effective(settings: Settings) -> dict[str, Any]:
    """Plain data of every setting, as the file would have it; passwords are replaced by `***`."""
    data = settings.model_dump(mode="json")
    if settings.database.url is not None:
        data["database"]["url"] = shown_url(settings.database.url.get_secret_value())
    return data


def effective_yaml(report: Report) -> str:
    """The same as YAML that can be read in again; a comment names the origin of what is not a default.

    Raises ConfigurationRefused when the report has faults.
    """
    lines: list[str] = []
    _write(effective(report.require()), (), dict(report.origins), lines)
    return "\n".join(lines) + "\n"


def _write(data: dict[str, Any], place: tuple[str, ...], origins: dict[str, str], lines: list[str]) -> None:
    indent = "  " * len(place)
    for key, value in data.items():
        here = (*place, key)
        origin = origins.get(written(here), "")
        comment = f"  # {origin}" if origin else ""
        if isinstance(value, dict):
            lines.append(f"{indent}{key}:{comment}")
            _write(value, here, origins, lines)
        elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
            lines.append(f"{indent}{key}:{comment}")
            block = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
            lines.extend(f"{indent}  {line}" for line in block.splitlines())
        else:
            lines.append(f"{indent}{key}: {_flow(value)}{comment}")


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=2**30)
    return text.removesuffix("\n").removesuffix("\n...")
