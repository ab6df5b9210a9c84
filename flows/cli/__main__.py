"""`python -m flows.cli`: the `evergreen` command."""

from flows.cli.commands import main

main()
