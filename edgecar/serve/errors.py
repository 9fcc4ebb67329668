"""Failures that an HTTP caller is told by a status of their own."""

from edgecar.errors import SettingsError


class UnknownCameraError(SettingsError):
    """There is no camera of that name: 404."""


class NameTakenError(SettingsError):
    """There is a camera of that name: 409."""
