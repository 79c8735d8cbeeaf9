"""How far each chain is: the rows of `heads` that one transaction works on, locked, moved and written back together.

A thousand stores that send a fact each are a thousand chains, so nothing here costs a statement per chain unless the
chain is an unusual one: with a hole that facts or tombstones may have closed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, select, tuple_, update

from cloud_bridge.hq import schema

Chain = tuple[str, str, str]
"""(store, epoch, class)"""

SCAN_FROM, SCAN_TO = 1, 50_000
"""Facts that had come out of order are read so many at a time: behind a hole that stays, one is enough to see it."""


@dataclass(slots=True)
class Head:
    """A chain's locked row while a transaction works on it."""

    chain: Chain
    contiguous: int
    highest: int
    hash: bytes | None
    facts: int
    duplicates: int


def of(columns: Any, chain: Chain) -> Any:
    """The condition that a table's row belongs to `chain`."""
    return and_(columns.store == chain[0], columns.epoch == chain[1], columns["class"] == chain[2])


def among(columns: Any, chains: Collection[Chain]) -> Any:
    """The condition that a table's row belongs to one of `chains`."""
    return tuple_(columns.store, columns.epoch, columns["class"]).in_(chains)


def lock(db: Connection, insert: Any, chains: Collection[Chain], now: str) -> dict[Chain, Head]:
    """Their rows, made where there are none; in one order, so that receivers do not wait for each other in a circle.

    `insert` is the dialect's, with ON CONFLICT.
    """
    if not chains:
        return {}
    found = _locked(db, chains)
    if missing := sorted(set(chains) - found.keys()):
        fresh = insert(schema.heads).on_conflict_do_nothing()
        blank = {"contiguous": 0, "highest": 0, "facts": 0, "duplicates": 0, "first_seen": now}
        db.execute(fresh, [{"store": chain[0], "epoch": chain[1], "class": chain[2], **blank} for chain in missing])
        found |= _locked(db, missing)
    return {chain: found[chain] for chain in sorted(chains)}


def _locked(db: Connection, chains: Collection[Chain]) -> dict[Chain, Head]:
    heads = schema.heads.c
    key = (heads.store, heads.epoch, heads["class"])
    query = select(*key, heads.contiguous, heads.highest, heads.hash, heads.facts, heads.duplicates)
    rows = db.execute(query.where(among(heads, chains)).order_by(*key).with_for_update())
    return {(row[0], row[1], row[2]): Head((row[0], row[1], row[2]), *row[3:]) for row in rows}


def advance(db: Connection, heads: Collection[Head]) -> None:
    """Move each `contiguous` over what is there and what is gone, and write the rows."""
    if not heads:
        return
    gone = _gone(db, [head.chain for head in heads])
    for head in heads:
        _advance_one(db, head, gone.get(head.chain, ()))
    row = schema.heads.c
    moved = update(schema.heads).where(
        and_(row.store == bindparam("of_store"), row.epoch == bindparam("of_epoch"), row["class"] == bindparam("of"))
    )
    values = [
        {
            "of_store": head.chain[0],
            "of_epoch": head.chain[1],
            "of": head.chain[2],
            "contiguous": head.contiguous,
            "highest": head.highest,
            "hash": head.hash,
            "facts": head.facts,
            "duplicates": head.duplicates,
        }
        for head in heads
    ]
    db.execute(moved, values)


def _gone(db: Connection, chains: Collection[Chain]) -> dict[Chain, list[tuple[int, int]]]:
    """Per chain the ranges that will never come, in order, as far as they end above its row's `contiguous`."""
    gone, heads = schema.gone.c, schema.heads.c
    same = and_(gone.store == heads.store, gone.epoch == heads.epoch, gone["class"] == heads["class"])
    query = (
        select(gone.store, gone.epoch, gone["class"], gone.first, gone.last)
        .join(schema.heads, same)
        .where(and_(among(heads, chains), gone.last > heads.contiguous))
        .order_by(gone.first)
    )
    found: dict[Chain, list[tuple[int, int]]] = defaultdict(list)
    for store, epoch, fact_class, first, last in db.execute(query):
        found[store, epoch, fact_class].append((int(first), int(last)))
    return found


def _advance_one(db: Connection, head: Head, gone: Iterable[tuple[int, int]]) -> None:
    facts = schema.facts.c
    head.highest = max([head.highest, *(last for _, last in gone)])
    moved, scan = head.highest > head.contiguous, SCAN_FROM
    while moved:
        moved = False
        for first, last in gone:
            if first <= head.contiguous + 1 <= last:
                head.contiguous, head.hash, moved = last, None, True
        following = (
            select(facts.seq, facts.hash)
            .where(and_(of(facts, head.chain), facts.seq > head.contiguous))
            .order_by(facts.seq)
            .limit(scan)
        )
        scan = min(SCAN_TO, 16 * scan)
        for seq, digest in db.execute(following):
            if seq != head.contiguous + 1:
                break
            head.contiguous, head.hash, moved = seq, digest, True
