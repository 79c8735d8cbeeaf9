"""The bridge between a store and HQ, and HQ's end of it."""
