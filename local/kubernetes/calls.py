"""A request that writes, as admission and all after it see it."""

from dataclasses import dataclass, field
from typing import Any

from local.kubernetes import status
from local.kubernetes.authn import User
from local.kubernetes.kinds import Kind
from local.kubernetes.options import Options
from local.kubernetes.routing import Attributes

Json = dict[str, Any]


@dataclass(slots=True)
class Call:
    """One request that writes, with everything that decides about it. Warnings gather here."""

    user: User
    attributes: Attributes
    kind: Kind
    options: Options
    warnings: list[str] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.attributes.namespace if self.kind.namespaced else ""

    @property
    def named(self) -> tuple[str, str, str]:
        """The object as refusals name it: resource, name, group."""
        return self.kind.plural, self.attributes.name, self.kind.group

    def judge(self, found: list[str]) -> None:
        """What a strict decoder found becomes a refusal, warnings, or nothing. Raises ApiError 400."""
        if found and self.options.strict:
            name = self.kind.name
            said = f"strict decoding error: {', '.join(found)}"
            raise status.bad_request(f'{name} in version "v1" cannot be handled as a {name}: {said}')
        if self.options.validation == "Warn":
            self.warnings += found


@dataclass(frozen=True, slots=True)
class Question:
    """What policies and webhooks are asked: `operation` is CREATE, UPDATE or DELETE; `body` is None when deleting."""

    call: Call
    operation: str
    body: Json | None
    old: Json | None

    @property
    def bodies(self) -> tuple[Json, ...]:
        return tuple(one for one in (self.body, self.old) if one is not None)

    @property
    def name(self) -> str:
        return str(self.bodies[0]["metadata"].get("name", ""))
