"""Other programs that keep and forward messages, run beside ours on the same facts, as their makers document them."""
