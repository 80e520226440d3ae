"""What an API server answers instead of taking a secret, and what each answer means.

The server's own are recordings (local/kubernetes/recordings). What the file beside this one writes out comes from what
stands between it and the app, or from Azure.
"""

from typing import Final

from local.kubernetes import recordings
from tests.core.answers import Answer, answers, kind, read

_TABLES: Final = read("kubernetes_answers")
RECORDED: Final = [
    Answer(case, recordings.load(case).status, recordings.fill(case).text, kind(name))
    for case, name in _TABLES["RECORDED"].items()
]
ANSWERS: Final = [*RECORDED, *answers(_TABLES["ANSWERS"])]
NONSENSE: Final = answers(_TABLES["NONSENSE"])
"""What no API server answers; but what stands between it and the app may."""
