"""The store's gateway: devices, bus, journal, services. The only writer of ``store.db``."""

__version__ = "0.1.0"
