"""Tags of the identities that onboarding creates."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from pullkeeper.azure.identities import OURS, SHARED

_RESERVED_TAGS: Final = ("azure", "microsoft", "windows")
"""Azure's own, by their beginning."""


def _are_free_tags(tags: dict[str, str]) -> dict[str, str]:
    """Azure compares names without regard to case."""
    names = [name.lower() for name in tags]
    if len({*names}) < len(names):
        raise ValueError("the same tag is named twice")
    if {*names} & {*OURS, *SHARED} or any(name.startswith(_RESERVED_TAGS) for name in names):
        raise ValueError(f"{', '.join((*OURS, *SHARED))}, and names with {', '.join(_RESERVED_TAGS)}, are reserved")
    return tags


Tags = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=r"^[^<>%&\\?/\x00-\x1f]{1,128}$")],
        Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]{0,256}$")],
    ],
    Field(max_length=15),
    AfterValidator(_are_free_tags),
]
