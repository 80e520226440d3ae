"""The keys that open functions and the admin routes."""

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

Level = Literal["anonymous", "function", "admin"]
_RANKS: dict[str, int] = {"anonymous": 0, "function": 1, "admin": 2}


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
            file.touch(mode=0o600)
            file.write_text(
                json.dumps(
                    {
                        "masterKey": {"name": "master", "value": keys.master, "encrypted": False},
                        "functionKeys": [{"name": "default", "value": keys.default, "encrypted": False}],
                    },
                    indent=2,
                )
            )
        document = json.loads(file.read_text())
        return cls(master=document["masterKey"]["value"], default=document["functionKeys"][0]["value"])

    def function(self, name: str) -> str:
        """The key that opens the function `name` alone, if its level is `function`."""
        return hashlib.sha256(f"{self.master}/{name.lower()}".encode()).hexdigest()

    def level(self, key: str, function: str = "") -> Level:
        """What `key` opens. Without the name of a function, every function's own key counts as wrong."""
        if secrets.compare_digest(key.encode(), self.master.encode()):
            return "admin"
        own = (self.default, self.function(function)) if function else (self.default,)
        return "function" if any(secrets.compare_digest(key.encode(), good.encode()) for good in own) else "anonymous"

    def opens(self, required: str, key: str, function: str) -> bool:
        return _RANKS[self.level(key, function)] >= _RANKS[required]
