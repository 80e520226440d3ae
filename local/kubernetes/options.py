"""What a write's query says: dry run, field manager, field validation, force."""

from collections.abc import Iterator
from dataclasses import dataclass

from multidict import MultiMapping

from local.kubernetes import status
from local.kubernetes.status import Cause, not_allowed, quoted, required, too_long, unsupported, wrong

_MANAGER_LIMIT = 128


@dataclass(frozen=True, slots=True)
class Options:
    manager: str = ""
    dry_run: bool = False
    validation: str = "Warn"
    """Ignore, Warn or Strict: what becomes of fields that the kind does not have."""
    force: bool = False

    @property
    def strict(self) -> bool:
        return self.validation == "Strict"


def parse(query: MultiMapping[str], agent: str, *, of: str, applies: bool = False) -> Options:
    """`of` names the options in a refusal: CreateOptions, UpdateOptions, PatchOptions. Raises ApiError 400 or 422."""
    manager, force = query.get("fieldManager", ""), query.get("force")
    causes: list[Cause] = []
    if of == "PatchOptions":
        causes += _check_force(manager, force, applies=applies)
    causes += _check_manager(manager)
    dry_run = query.getall("dryRun", [])
    if any(value != "All" for value in dry_run):
        shown = "[" + ",".join(f'"{value}"' for value in dry_run) + "]"
        causes.append(unsupported("dryRun", shown, ["All"]))
    validation = query.get("fieldValidation", "")
    if validation not in ("", "Ignore", "Strict", "Warn"):
        causes.append(unsupported("fieldValidation", f'"{validation}"', ["", "Ignore", "Strict", "Warn"]))
    if causes:
        raise status.invalid(of, "", causes, "meta.k8s.io")
    return Options(manager or _from_agent(agent), bool(dry_run), validation or "Warn", force in ("true", "1"))


def _check_force(manager: str, force: str | None, *, applies: bool) -> Iterator[Cause]:
    if applies and not manager:
        yield required("fieldManager", "is required for apply patch")
    if not applies and force is not None:
        yield not_allowed("force", "may not be specified for non-apply patch")


def _check_manager(manager: str) -> Iterator[Cause]:
    if len(manager.encode()) > _MANAGER_LIMIT:
        yield too_long("fieldManager", f"may not be more than {_MANAGER_LIMIT} bytes")
    for at, character in enumerate(manager):
        if not character.isprintable():
            said = f"invalid character U+{ord(character):04X} (at position {at})"
            yield wrong("fieldManager", quoted(manager), said)


def _from_agent(agent: str) -> str:
    """The part of the User-Agent before the first slash stands in for a field manager."""
    name = "".join(character for character in agent.partition("/")[0] if character.isprintable())
    return name.encode()[:_MANAGER_LIMIT].decode(errors="ignore")
