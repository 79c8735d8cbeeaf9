"""The store's master keys while edge runs: what a person should know of them, and sealing anew what needs it.

Strategy: nothing here can stop a sale. Where a key was missing the old file has been set aside before this begins;
here it is said until the key is back, and the facts that only it opens reach HQ by themselves then. A new master key is
taken at edge's next start; from then on it seals everything, and what lay there is sealed anew in the background.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NoReturn

from edge.access.audit import Audit
from edge.bus.messages.facts import AuditAction
from edge.journal.sealing import Place
from edge.journal.store import Store
from edge.seal import Keyring
from edge.services.warnings import Warnings

log = logging.getLogger(__name__)

BEGIN_AFTER_S = 10.0
"""The start of a day has other things to do."""
LOOK_EVERY_S = 60.0


class MasterKeys:
    """Looks after the keys of one open store; `run` until cancelled."""

    def __init__(self, store: Store, warnings: Warnings, places: Sequence[Place], audit: Audit | None = None) -> None:
        self._store = store
        self._audit = audit
        self._warnings = warnings
        self._places = places
        for number, fault in enumerate(store.keyring.faults):
            warnings.set(f"seal_key.{number + 1}", fault)

    async def run(self, begin_after_s: float = BEGIN_AFTER_S) -> NoReturn:
        """Seal anew what needs it, once; look for keys that are missing, and tell, for ever."""
        await self.tell()
        await asyncio.sleep(begin_after_s)
        if count := await self._store.reseal(self._places):
            log.info("%d rows were sealed anew", count)
            if self._audit is not None:
                self._audit.record(
                    AuditAction.KEY_ROTATED, subject=self._store.keyring.current.id, detail=f"{count} rows sealed anew"
                )
        if len(self._store.keyring.keys) > 1:
            await self._store.reseal_subjects()
        while True:
            await self.tell()
            await asyncio.sleep(LOOK_EVERY_S)

    async def tell(self) -> None:
        """Say which keys are missing, as long as they are."""
        missing = await self._store.missing_keys()
        if not missing:
            self._warnings.clear("seal_key_missing")
            return
        now = await asyncio.to_thread(Keyring.find, self._store.path.parent)
        came = {key.id for key in now.keys}
        keys = sorted({key for found in missing.values() for key in found} - came)
        if not keys:
            self._warnings.clear("seal_key_missing")
            return
        self._warnings.set(
            "seal_key_missing",
            f"facts of {len(missing)} earlier journals wait: the key that sealed them is missing ({', '.join(keys)});"
            " bring the old keyring back (tillgate access key add FILE, or the systemd credential); they then go to HQ",
        )
