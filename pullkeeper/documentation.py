"""Where the documentation is read: addresses of the runbook's pages."""

from dataclasses import dataclass

from pullkeeper.version import REPOSITORY


@dataclass(frozen=True, slots=True)
class Documentation:
    """base: the address of the folder that contains `docs`."""

    base: str = f"{REPOSITORY}/blob/main"

    def page(self, category: str) -> str:
        """Return the address of a failure category's page in the runbook."""
        return f"{self.base}/docs/runbook/{category}.md"
