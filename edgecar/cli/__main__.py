"""``python -m edgecar.cli`` is the ``edgecar`` command, as is ``python -m edgecar``."""

from edgecar.cli import main

main()
