"""The client library a lane uses: facts kept until accepted, requests with deadlines, fresh scans, presence.

    identity = await enrol(code, Path("identity"))   # once: tillgate lanes invite 3
    ...
    async with Till(identity=Path("identity"), ledger_path=Path("lane-3.db")) as till:
        scan = await till.next_scan()
        price = await till.price(scan.gtin or scan.text)
        await till.fact(SaleCompleted(...))          # on this machine's disk when it returns
        await till.request("print", {"document": [...]})

A till machine needs `edge.bus`, `edge.till`, `edge.seal` and `edge.card_guard`, and no other part of Tillgate.
"""

from edge.bus.invitation import BadCode
from edge.till.enrolling import NotEnrolled, enrol
from edge.till.identity import Identity, NoIdentity
from edge.till.ledger import Fact, FactState, Ledger, WrongLedger
from edge.till.outbox import Accepted, Pending, Refused
from edge.till.prices import Price
from edge.till.scans import Rejection, Scan
from edge.till.till import Till

__all__ = [
    "Accepted",
    "BadCode",
    "Fact",
    "FactState",
    "Identity",
    "Ledger",
    "NoIdentity",
    "NotEnrolled",
    "Pending",
    "Price",
    "Refused",
    "Rejection",
    "Scan",
    "Till",
    "WrongLedger",
    "enrol",
]
