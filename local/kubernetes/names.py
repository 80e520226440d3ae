"""Which texts are names, labels and keys: regular expressions for the whole text, none wider than the real server's."""

from typing import Final

_WORD: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_PART: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"

LABEL: Final = rf"(?=.{{1,63}}$){_WORD}"
"""RFC 1123."""
SUBDOMAIN: Final = rf"(?=.{{1,253}}$){_WORD}(\.{_WORD})*"
SERVICE: Final = rf"(?=[a-z]){LABEL}"
CRON_JOB: Final = rf"(?=.{{1,52}}$){SUBDOMAIN}"
"""The controller appends the time to it."""
ROLE: Final = r"[A-Za-z0-9:_-][A-Za-z0-9:_.-]*"
KEY: Final = rf"((?=[^/]{{1,253}}/){_WORD}(\.{_WORD})*/)?(?=.{{1,63}}$){_PART}"
"""Of a label or an annotation."""
VALUE: Final = rf"(?=.{{0,63}}$)({_PART})?"
"""Of a label."""
DATA_KEY: Final = r"(?!\.$|\.\.)[-._a-zA-Z0-9]{1,253}"
"""Of a Secret or a ConfigMap."""
