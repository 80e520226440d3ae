"""A host."""

from local.host.hosting import Host
from local.host.keys import Keys
from local.host.process import HostProcess
from local.host.settings import SettingsError, UnsupportedError

__all__ = ["Host", "HostProcess", "Keys", "SettingsError", "UnsupportedError"]
