"""`python -m tagpr.cli`."""

from tagpr.cli import main

main()
