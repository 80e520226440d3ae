"""The setting HUBS: the configured hubs by name, where a wrong one does not stop the others."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, Json

from pullkeeper.document import Document
from pullkeeper.errors import InvalidRequest, InvalidSetting
from pullkeeper.publisher.hub import Hub, HubName


class _Setting(Document):
    hubs: Annotated[Json[dict[str, Any]], Field(alias="HUBS")]


class _OneHub(Document):
    hubs: Annotated[dict[HubName, Hub], Field(alias="HUBS")]


class Hubs(Mapping[str, Hub]):
    """Hubs by name. To look up a hub that is wrong raises InvalidSetting; if the setting is not a JSON object, so does
    every look-up.

    valid: the hubs that are right. faults: what is wrong, by the hub's name; by "" for the setting as a whole.
    """

    def __init__(self, hubs: Mapping[str, Hub] | None = None, faults: Mapping[str, str] | None = None) -> None:
        self.valid = dict(hubs or {})
        self.faults = dict(faults or {})

    @classmethod
    def parse(cls, text: str, trusted_hosts: frozenset[str]) -> Self:
        hubs: dict[str, Hub] = {}
        faults: dict[str, str] = {}
        try:
            documents = _Setting.parse({"HUBS": text}).hubs
        except InvalidRequest as e:
            return cls(faults={"": e.detail})
        for name, document in documents.items():
            try:
                hubs |= _OneHub.parse({"HUBS": {name: document}}, trusted_hosts=trusted_hosts).hubs
            except InvalidRequest as e:
                faults[name] = e.detail
        return cls(hubs, faults)

    def __getitem__(self, name: str) -> Hub:
        fault = self.faults.get("") or self.faults.get(name)
        if fault:
            raise InvalidSetting(fault)
        return self.valid[name]

    def __iter__(self) -> Iterator[str]:
        if "" in self.faults:
            raise InvalidSetting(self.faults[""])
        return iter((*self.valid, *self.faults))

    def __len__(self) -> int:
        return len(self.valid) + len(self.faults)
