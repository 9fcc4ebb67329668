"""Engines, which run artifacts: one class for each library, all behind `Engine`."""
