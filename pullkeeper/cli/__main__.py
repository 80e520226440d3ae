"""`python -m pullkeeper.cli`."""

from pullkeeper.cli.main import main

main()
