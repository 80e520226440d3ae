"""The base of all documents: settings, queue messages, table rows, requests and responses.

Field names are camelCase outside the process, and unknown fields are refused.
"""

from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from pullkeeper.errors import InvalidRequest

UNION_TAGS: Final = ("by name", "by content")
"""Tags of a union that error messages leave out."""


class Document(BaseModel):
    """Anything that comes from outside or leaves the process. Frozen, and validated once."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def parse(cls, data: Any, *, trusted_hosts: frozenset[str] = frozenset()) -> Self:
        """Validate JSON text or parsed JSON. Raises InvalidRequest with the name of each wrong field, and never its
        value: that may be anything, a token included.

        trusted_hosts: hosts that a hub may name beside Google's.
        """
        validate = cls.model_validate_json if isinstance(data, (str, bytes)) else cls.model_validate
        try:
            return validate(data, context={"trusted_hosts": trusted_hosts})
        except ValidationError as e:
            raise InvalidRequest("; ".join(_fault(fault["loc"], fault["msg"]) for fault in e.errors())) from None

    def to_json(self) -> str:
        """Write the fields that differ from their defaults, for `parse` to read."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True)


def _fault(path: tuple[int | str, ...], text: str) -> str:
    """Return `targets.0.secret: what is wrong`, without the tags of unions that pydantic puts into the path."""
    where = ".".join(str(part) for part in path if part not in UNION_TAGS)
    return ": ".join(filter(None, (where, text.removeprefix("Value error, "))))
