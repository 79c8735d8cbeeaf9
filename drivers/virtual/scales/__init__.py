"""Virtual scales, one file per protocol, each written from the protocol's document."""
