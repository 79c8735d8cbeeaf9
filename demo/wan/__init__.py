"""The wide area network between a store and its cloud, as a TCP relay: delay, bandwidth, cuts, resets, refusals.

line.py        one direction: when a packet arrives, and how much the bottleneck's queue can take (no I/O)
connection.py  one connection: two ends, a flow each way
relay.py       `Wan`: the relay itself, in asyncio
control.py     the same as a process of its own, steered over a unix socket: python -m demo.wan

Everything goes over 127.0.0.1: what a connection meets there is what the lines say, no more.
"""

from demo.wan.line import Line
from demo.wan.relay import Wan

__all__ = ["Line", "Wan"]
