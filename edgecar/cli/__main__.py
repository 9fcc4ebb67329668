"""``python -m edgecar.cli`` is the ``edgecar`` command."""

from edgecar.cli import main

main()
