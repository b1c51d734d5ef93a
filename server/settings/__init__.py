"""What can be set, and where it is read from: flags, environment, files."""

from tickertape.server.settings.model import AuthMode, Settings, SettingsError, UnknownFields

__all__ = ["AuthMode", "Settings", "SettingsError", "UnknownFields"]
