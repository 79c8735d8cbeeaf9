"""Store services: what the gateway does for tills above the devices, one file each."""
