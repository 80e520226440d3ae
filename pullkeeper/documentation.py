"""Where the documentation is read: addresses of the runbook's pages."""

from dataclasses import dataclass

from pullkeeper.version import REPOSITORY


@dataclass(frozen=True, slots=True)
class Documentation:
    """base: the address of the folder that contains `docs`."""

    base: str = f"{REPOSITORY}/blob/main"

    def page(self, category: str | None) -> str | None:
        """Return the address of a failure category's page in the runbook; None without a category."""
        return f"{self.base}/docs/runbook/{category}.md" if category else None

    @property
    def figures(self) -> str:
        """The address where the figures of a run are explained."""
        return f"{self.base}/docs/runbook/README.md#the-figures-of-a-run"
