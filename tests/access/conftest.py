"""Fixtures of the link to HQ (a store's configuration, a cloud broker, HQ's database) for the tests of trust."""

from tests.cloud_bridge.conftest import cloud, configure, hq_file

__all__ = ["cloud", "configure", "hq_file"]
