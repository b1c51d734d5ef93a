"""The settings, and where they are read from: flags, environment, files."""

from tickertape.server.settings.model import AuthMode, Images, Settings, SettingsError, UnknownFields

__all__ = ["AuthMode", "Images", "Settings", "SettingsError", "UnknownFields"]
