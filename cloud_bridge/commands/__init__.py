"""The commands of `tillgate hq`, one file per family. `at_hq` holds what they share: HQ's database and cloud broker."""
