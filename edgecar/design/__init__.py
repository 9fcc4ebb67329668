"""How the shapes of our own networks were chosen: candidates, trained alike and compared."""
