"""Measurements for the project's own pages; not in the wheel."""
