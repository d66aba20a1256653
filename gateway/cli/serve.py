"""`scanwarden serve`: the service, all roles or some of them."""

from typing import Annotated

import typer

from config.settings import Role
from gateway.cli.options import ConfigOption, settings_or_exit


def serve(
    config: ConfigOption = None,
    roles: Annotated[
        str,
        typer.Option("--roles", help="Comma-separated: receive, analyse, deliver, timetable, web. Without it: all."),
    ] = ",".join(Role),
) -> None:
    """Receive, analyse and deliver until told to stop (SIGTERM or Ctrl-C drains)."""
    names = [name.strip() for name in roles.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(Role)]
    if unknown or not names:
        raise typer.BadParameter(f"{', '.join(unknown) or 'nothing'} is no role; choose from {', '.join(Role)}")
    settings = settings_or_exit(config)
    from gateway.processes import supervise

    raise typer.Exit(supervise(settings, config, [Role(name) for name in dict.fromkeys(names)]))
