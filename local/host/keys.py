"""The keys that open functions and the admin routes."""

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

LEVELS = ("anonymous", "function", "admin")


@dataclass(frozen=True, slots=True)
class Keys:
    """The host's two keys: `master` opens everything, `default` the functions of level `function`."""

    master: str
    default: str

    @classmethod
    def generate(cls) -> Self:
        return cls(master=secrets.token_urlsafe(40), default=secrets.token_urlsafe(40))

    @classmethod
    def at(cls, file: Path) -> Self:
        """Read the keys from `file` (the JSON of the real host's secret files); write new ones if it does not exist."""
        if not file.exists():
            keys = cls.generate()
            document = {
                "masterKey": {"name": "master", "value": keys.master, "encrypted": False},
                "functionKeys": [{"name": "default", "value": keys.default, "encrypted": False}],
            }
            file.touch(mode=0o600)
            file.write_text(json.dumps(document, indent=2))
        document = json.loads(file.read_text())
        return cls(master=document["masterKey"]["value"], default=document["functionKeys"][0]["value"])

    def function(self, name: str) -> str:
        """The key that opens the function `name` alone, if its level is `function`."""
        return hashlib.sha256(f"{self.master}/{name.lower()}".encode()).hexdigest()

    def level(self, key: str, function: str = "") -> int:
        """The highest of LEVELS that `key` opens, as an index. function: the one whose own key counts, too."""
        own = (self.default, *([self.function(function)] if function else []))
        if secrets.compare_digest(key.encode(), self.master.encode()):
            return 2
        return int(any(secrets.compare_digest(key.encode(), good.encode()) for good in own))
