"""Scanner protocols, one file each."""
