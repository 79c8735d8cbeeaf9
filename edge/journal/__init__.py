"""The store's append-only, hash-chained record of facts, and the durable state that is committed with it."""
