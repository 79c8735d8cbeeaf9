"""Cash drawers: the pulses that open them and what their switch says."""
