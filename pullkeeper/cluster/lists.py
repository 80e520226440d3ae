"""Lists of objects, as metadata, page by page."""

from contextlib import suppress
from typing import Any, Final

from pullkeeper.cluster.api import Api
from pullkeeper.cluster.refusals import ListExpired
from pullkeeper.errors import ClusterUnwell

_TRIES: Final = 3
"""Of a list whose pages expire before it has ended: they are good for five minutes."""


async def list_all(api: Api, path: str, *, labels: str = "", fields: str = "") -> list[dict[str, Any]]:
    """Return the metadata of all objects that these selectors match. Raises ClusterError.

    Pages that have expired begin again: the rest of such a list would not agree with what was read before.
    """
    for _ in range(_TRIES):
        found, token, is_first = list[dict[str, Any]](), "", True
        with suppress(ListExpired):
            while token or is_first:
                page, token = await api.list_page(path, token, labels=labels, fields=fields)
                found, is_first = found + page, False
            return found
    raise ClusterUnwell(f"the list of {path.rpartition('/')[2]} expired {_TRIES} times before its end")
