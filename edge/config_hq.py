"""What HQ has changed of this store's configuration: laid over ``store.toml`` while it is read.

    state_dir/hq/configuration.json   {"version": .., "settings": {"limits": {"burst": 500}, "lanes": {"1": "Express"}}}
    state_dir/hq/keys.json            {"version": .., "instead_of": [price_key of store.toml], "keys": [..]}

Strategy: edge writes both after HQ's signature was checked; whoever reads a configuration (edge, bridge, commands) gets
the same. Only `SETTABLE` is ever taken from there, whatever stands in the file: never a device, a path, an address, or
whom this store trusts. When ``store.toml`` was changed so that the two do not fit any more, HQ's part is left out and
that is said; when a person changed `price_key` by hand, the file counts and not what HQ had sent.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SETTABLE: Mapping[str, tuple[str, ...]] = {
    "limits": ("messages_per_s", "burst", "message_bytes", "requests_in_flight"),
    "journal": ("retention_days", "reserve_mb"),
    "scanning": ("country", "variable_measure"),
    "store": ("name",),
}
"""Table -> keys. Of ``lanes``, which is lane id -> name here, the names may be set."""

AT_ONCE = {("limits", "messages_per_s"), ("limits", "burst"), ("journal", "retention_days")}
"""What takes effect without a restart of edge."""

LEAST_RETENTION_DAYS = 7
"""HQ may not have a store forget what it has confirmed sooner than this: its own backup may be as old."""


class NotSettable(ValueError):
    """HQ may not set this; the text says what and what it may."""


def configuration_file(state_dir: Path) -> Path:
    return state_dir / "hq" / "configuration.json"


def keys_file(state_dir: Path) -> Path:
    return state_dir / "hq" / "keys.json"


def bounded(settings: Mapping[str, Any]) -> None:
    """NotSettable unless `settings` names nothing but what HQ may set."""
    for table, values in settings.items():
        if not isinstance(values, dict):
            raise NotSettable(f"{table} is no table")
        if table == "lanes":
            if not all(isinstance(name, str) and len(name) <= 64 for name in values.values()):
                raise NotSettable("lanes: of a lane only its name may be set, a text of at most 64 characters")
            continue
        known = SETTABLE.get(table)
        if known is None:
            raise NotSettable(f"[{table}] is not HQ's to set; it may set {', '.join([*SETTABLE, 'lanes'])}")
        for key in values:
            if key not in known:
                raise NotSettable(f"{table}.{key} is not HQ's to set; of [{table}] it may set {', '.join(known)}")
    days = settings.get("journal", {}).get("retention_days", LEAST_RETENTION_DAYS)
    if not isinstance(days, int) or days < LEAST_RETENTION_DAYS:
        raise NotSettable(f"journal.retention_days: at least {LEAST_RETENTION_DAYS} days when HQ sets it")


def laid_over(table: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The TOML `table` with `settings` in their places; NotSettable."""
    bounded(settings)
    out = dict(table)
    for name, values in settings.items():
        if name != "lanes":
            out[name] = {**out.get(name, {}), **values}
            continue
        lanes = [dict(lane) for lane in out.get("lanes", [])]
        for lane in lanes:
            if lane.get("id") in values:
                lane["name"] = values[lane["id"]]
        out["lanes"] = lanes
    return out


def read(file: Path) -> dict[str, Any] | None:
    """What stands in one of the two files; None when there is none or it cannot be read (it comes again)."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("version"), int):
            return found
    return None


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Replace one of the two files, whole and on disk. OSError."""
    from edge.seal import write_secret

    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(file, json.dumps(content, indent=1, sort_keys=True).encode())


def keys_in_force(configured: tuple[str, ...], state_dir: Path) -> tuple[str, ...]:
    """HQ's keys: those it has rotated to, or those of ``store.toml``."""
    found = read(keys_file(state_dir))
    if found is None or not configured or found.get("instead_of") != list(configured):
        return configured
    keys = found.get("keys")
    return tuple(str(key) for key in keys) if isinstance(keys, list) and keys else configured


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """``limits.burst = 500`` and the like: what `after` sets otherwise than `before`; what it sets no more."""
    flat = [{(t, k): v for t, values in one.items() for k, v in values.items()} for one in (before, after)]
    said = [f"{t}.{k} = {json.dumps(v)}" for (t, k), v in flat[1].items() if flat[0].get((t, k), ...) != v]
    return said + [f"{t}.{k} as in store.toml" for t, k in flat[0] if (t, k) not in flat[1]]


def waiting(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Which of the changes wait for the next start of edge."""
    return [one for one in changes(before, after) if tuple(one.split(" ")[0].split(".", 1)) not in AT_ONCE]
