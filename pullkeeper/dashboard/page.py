"""The dashboard's files as one page, under a policy that lets nothing else run."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

_FOLDER: Final = Path(__file__).parent
_STYLE: Final = re.compile(r'<link rel="stylesheet" href="(\w+\.css)">')
_SCRIPT: Final = re.compile(r'<script src="(\w+\.js)"></script>')
_POLICY: Final = {
    "default-src": "'none'",
    "connect-src": "'self'",
    "img-src": "data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
"""What the page may do besides its own code: call this app, and show its icon. No text becomes markup or code."""


@dataclass(frozen=True, slots=True)
class Page:
    html: str
    headers: Mapping[str, str]


@cache
def page(access: Literal["key", "entra"]) -> Page:
    """Return the page, put together once. Scripts share one scope, in the order of `page.html`.

    access: what opens the other routes, a function key or a sign-in with Entra.
    """
    hashes: dict[str, list[str]] = {"style-src": [], "script-src": []}

    def put_in(tag: str, found: re.Match[str]) -> str:
        text = (_FOLDER / found[1]).read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[f"{tag}-src"].append(f"'sha256-{digest}'")
        return f"<{tag}>{text}</{tag}>"

    html = (_FOLDER / "page.html").read_text(encoding="utf-8").replace('data-access="key"', f'data-access="{access}"')
    html = _STYLE.sub(lambda found: put_in("style", found), html)
    html = _SCRIPT.sub(lambda found: put_in("script", found), html)
    policy = {**_POLICY, **{name: " ".join(values) for name, values in hashes.items()}}
    return Page(
        html,
        {
            "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
            "Cross-Origin-Opener-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            # Its address may have held a key.
            "Cache-Control": "no-store",
        },
    )
