"""Figures of a benchmark: printed as plain lines, merged by name into build/bench.json, drawn as build/bench.png."""

import json
import os
import resource
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont

_FOLDER: Final = Path(__file__).parents[2] / "build"
_JSON, _CHART = _FOLDER / "bench.json", _FOLDER / "bench.png"
_ROW, _NAMES, _BARS = 26, 430, 420  # pixels
_GOOD, _BAD, _LIMIT = "#2e7d5b", "#b3423a", "#333333"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. limit: at most that, or at least where `at_least`; None: it is shown and not judged. detail:
    what it was measured on.
    """

    name: str
    value: float
    unit: str = ""
    limit: float | None = None
    at_least: bool = False
    detail: str = ""

    @property
    def is_within(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        verdict = ""
        if self.limit is not None:
            bound = f"{'at least' if self.at_least else 'at most'} {self.limit:g}"
            verdict = f" ({bound}: {'kept' if self.is_within else 'BROKEN'})"
        detail = f"; {self.detail}" if self.detail else ""
        return f"{self.name}: {self.value:.4g}{f' {self.unit}' if self.unit else ''}{verdict}{detail}"


def cpu_seconds() -> float:
    """Return the CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cpu_seconds_of(pid: int) -> float:
    """Return the CPU that another process has used, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory_of(pid: int) -> float:
    """Return the most MB that another process has had in memory."""
    [line] = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def record(name: str, figures: Iterable[Figure]) -> None:
    """Replace what build/bench.json holds of a benchmark, and draw the chart again."""
    known = read()
    known[name] = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load": round(os.getloadavg()[0], 1),
        "figures": {
            one.name: {"value": one.value, "unit": one.unit, "limit": one.limit, "atLeast": one.at_least}
            for one in figures
        },
    }
    _FOLDER.mkdir(exist_ok=True)
    _JSON.write_text(json.dumps(known, indent=1, sort_keys=True))
    _draw(known)


def read() -> dict[str, Any]:
    """Return what build/bench.json holds: by benchmark, when it ran, at which load, and its figures."""
    return dict(json.loads(_JSON.read_text())) if _JSON.exists() else {}


def _draw(known: Mapping[str, Any]) -> None:
    """Draw each figure that has a limit as a bar: the full width is the limit, and a bar beyond it breaks it."""
    judged = [
        (f"{name} / {figure}", one["limit"] / one["value"] if one["atLeast"] else one["value"] / one["limit"], one)
        for name, run in sorted(known.items())
        for figure, one in run["figures"].items()
        if one["limit"] and one["value"]
    ]
    image = Image.new("RGB", (_NAMES + 2 * _BARS, _ROW * (len(judged) + 1)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    draw.text((8, 4), "share of the limit", fill=_LIMIT, font=font)
    for row, (label, share, one) in enumerate(judged, start=1):
        top = row * _ROW
        width = round(min(share, 1.5) * _BARS)
        draw.rectangle((_NAMES, top + 4, _NAMES + width, top + _ROW - 4), fill=_GOOD if share <= 1 else _BAD)
        draw.text((8, top + 4), label, fill=_LIMIT, font=font)
        limit = f"{one['value']:.3g} {one['unit']} ({'>=' if one['atLeast'] else '<='} {one['limit']:g})"
        draw.text((_NAMES + width + 8, top + 4), limit, fill=_LIMIT, font=font)
    draw.line((_NAMES + _BARS, _ROW, _NAMES + _BARS, image.height), fill=_LIMIT, width=2)
    image.save(_CHART)
