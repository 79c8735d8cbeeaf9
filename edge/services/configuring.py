"""HQ's configuration of this store, and HQ's own keys: believed, checked whole, kept, and in force.

Strategy: the message is answered once the file is on disk. It holds at the next start for sure, and at once where that
is easy (`config_hq.AT_ONCE`); what waits for a start is a warning, so that a person knows why nothing changed. Whatever
changes is in the audit, what was refused too. A version that is not above the one in force is refused for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from edge import config_hq
from edge.access.audit import Audit
from edge.bus.messages.configuration import Configuration, HqKeys
from edge.bus.messages.facts import AuditAction, first_error
from edge.bus.messages.replies import Code
from edge.bus.messages.signed import Numbered
from edge.config import BadConfig, StoreConfig, with_settings
from edge.journal.store import StoreFaulted
from edge.services.from_hq import Believed, Delivery, NotTaken
from edge.services.warnings import Warnings

T = TypeVar("T", bound=Numbered)
WAITS, UNFIT = "configuration_waits", "configuration_unfit"


class Configuring:
    """Takes the streams ``configuration`` and ``keys``. `now` is what is in force, with what could change at once."""

    def __init__(self, config: StoreConfig, believed: Believed, audit: Audit, warnings: Warnings) -> None:
        self.now = config
        self.on_change: list[Callable[[StoreConfig], None]] = []
        self._began_with = config.from_hq.settings
        self._kept = config.from_hq
        self._believed = believed
        self._audit = audit
        self._warnings = warnings
        if self._kept.unfit:
            self._warnings.set(
                UNFIT,
                f"HQ's configuration {self._kept.version} does not fit store.toml any more: {self._kept.unfit}"[:500],
            )

    @property
    def version(self) -> int | None:
        """Of HQ's configuration that is kept; None: HQ has set nothing."""
        return self._kept.version

    async def take(self, delivery: Delivery) -> None:
        """Keep one configuration; NotTaken when it is not HQ's, older than ours, or cannot be right."""
        try:
            told = self._told(delivery, Configuration)
            if told.version <= (self._kept.version or 0):
                if (told.version, told.settings) == (self._kept.version, self._kept.settings):
                    return  # came twice
                raise NotTaken(
                    Code.CONFLICT, f"version {told.version} is not above {self._kept.version}, which is in force"
                )
            config = await asyncio.to_thread(self._checked, told.settings)
        except NotTaken as refused:
            self._audit.record(AuditAction.HQ_NOT_BELIEVED, "refused", subject="configuration", detail=refused.detail)
            raise
        await self._keep(
            config_hq.configuration_file(self.now.state_dir), {"version": told.version, "settings": told.settings}
        )
        changes = config_hq.changes(self._kept.settings, told.settings)
        self._kept = self._kept.model_copy(update={"version": told.version, "settings": told.settings, "unfit": ""})
        self._warnings.clear(UNFIT)
        if waiting := config_hq.waiting(self._began_with, told.settings):
            shown = "; ".join(waiting)[:300]
            self._warnings.set(WAITS, f"HQ's configuration {told.version} waits for a restart of the gateway: {shown}")
        else:
            self._warnings.clear(WAITS)
        self.now = config.model_copy(update={"cloud": self.now.cloud, "from_hq": self._kept})
        self._audit.record(
            AuditAction.CONFIGURATION_CHANGED,
            person=told.by or None,
            subject=str(told.version),
            detail="; ".join(changes),
        )
        for changed in self.on_change:
            changed(self.now)

    async def take_keys(self, delivery: Delivery) -> None:
        """Let HQ's keys be others from now on; NotTaken when it is not HQ's word, or an older one."""
        file = config_hq.keys_file(self.now.state_dir)
        try:
            told = self._told(delivery, HqKeys)
            kept = await asyncio.to_thread(config_hq.read, file)
            instead_of = list(self._kept.price_key)
            if kept is not None and kept.get("instead_of") == instead_of and told.version <= kept["version"]:
                if (told.version, list(told.keys)) == (kept["version"], kept.get("keys")):
                    return
                raise NotTaken(
                    Code.CONFLICT, f"version {told.version} is not above {kept['version']}, which is in force"
                )
        except NotTaken as refused:
            self._audit.record(AuditAction.HQ_NOT_BELIEVED, "refused", subject="keys", detail=refused.detail)
            raise
        await self._keep(file, {"version": told.version, "instead_of": instead_of, "keys": list(told.keys)})
        self._believed.change(told.keys)
        self._audit.record(
            AuditAction.KEY_ROTATED, subject="HQ's keys", detail=f"{len(told.keys)}: {', '.join(told.keys)}"
        )

    def _told(self, delivery: Delivery, model: type[T]) -> T:
        text = self._believed.text_of(delivery.body)
        try:
            told = model.model_validate_json(text)
        except ValidationError as error:
            raise NotTaken(Code.BAD_MESSAGE, first_error(error)) from None
        if (told.epoch, told.seq) != (delivery.epoch, delivery.seq):
            raise NotTaken(Code.BAD_MESSAGE, f"was signed as {told.seq} of {told.epoch}, came as another message")
        self._believed.speaks_to_us(told, delivery.group)
        return told

    def _checked(self, settings: dict[str, Any]) -> StoreConfig:
        try:
            return with_settings(self.now.file, settings)
        except (BadConfig, config_hq.NotSettable) as error:
            raise NotTaken(Code.BAD_MESSAGE, f"cannot be right: {error}") from None
        except OSError as error:
            raise StoreFaulted(f"{self.now.file} cannot be read: {error}") from error

    @staticmethod
    async def _keep(file: Path, content: dict[str, Any]) -> None:
        try:
            await asyncio.to_thread(config_hq.write, file, content)
        except OSError as error:  # the bridge gives it to us again
            raise StoreFaulted(f"{file} cannot be written: {error}") from error
