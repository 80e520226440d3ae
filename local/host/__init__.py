"""A host for the function app where Azure Functions Core Tools is missing: `python -m local.host`.

It reads the app's own registrations, serves its HTTP routes, runs its timers and feeds its queues from Azurite, and
behaves like the real host down to what one would rather have otherwise: what happens here will happen in Azure.
"""

from local.host.hosting import Host
from local.host.process import HostProcess
from local.host.registrations import IndexingError
from local.host.settings import SettingsError
from local.host.web import Keys

__all__ = ["Host", "HostProcess", "IndexingError", "Keys", "SettingsError"]
