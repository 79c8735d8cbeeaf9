"""Scale protocols, one file each, named after their document."""
