"""`python -m gateway.cli`: the command line of this very installation, for processes that start another."""

from gateway.cli import main

main()
