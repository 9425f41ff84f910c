"""`python -m chainrule`: the command line."""

from chainrule.app.cli import main

main()
