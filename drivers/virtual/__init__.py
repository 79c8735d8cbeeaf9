"""Virtual twins: the far end of each wire format, with faults on demand."""
