"""``python -m edgecar`` is the ``edgecar`` command."""

from edgecar.cli import main

main()
