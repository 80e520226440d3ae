"""Names of Kubernetes objects, and the service accounts of a target."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StringConstraints, model_serializer

from pullkeeper.document import Document

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
Namespace = Annotated[str, StringConstraints(pattern=rf"^{_LABEL}$")]
ObjectName = Annotated[str, StringConstraints(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=253)]
AccountName = Annotated[ObjectName, StringConstraints(max_length=63)]
"""Kubernetes allows 253 characters. With 63, the largest request has the size that the app accepts."""


def is_namespace(name: str) -> bool:
    """Whether a namespace can have this name."""
    return re.fullmatch(_LABEL, name) is not None


class ServiceAccount(Document):
    """A service account whose pods get the secret, because the account names it in `imagePullSecrets`.

    federate: also trust its tokens as the cluster's identity, by a federated credential. Written as its plain name
    where that is not wanted.
    """

    name: AccountName
    federate: StrictBool = False

    @model_serializer
    def _write(self) -> str | dict[str, Any]:
        return {"name": self.name, "federate": True} if self.federate else self.name


def _from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _are_different_accounts(value: tuple[ServiceAccount, ...]) -> tuple[ServiceAccount, ...]:
    if len({account.name for account in value}) < len(value):
        raise ValueError("the same service account is named twice")
    return value


ServiceAccounts = Annotated[
    tuple[
        Annotated[ServiceAccount, BeforeValidator(_from_name, json_schema_input_type=AccountName | ServiceAccount)], ...
    ],
    Field(max_length=20),
    AfterValidator(_are_different_accounts),
]
