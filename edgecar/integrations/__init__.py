"""Classes that other libraries' loops take; each imports its library."""
