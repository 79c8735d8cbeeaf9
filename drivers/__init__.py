"""Drivers: everything that knows a wire format, and nothing that knows a store.

Bytes come in through a transport, a protocol turns them into frozen events, a driver joins the two.
This package imports nothing else of the project; see `drivers/README.md` for how to add a device.
"""
