"""Every message of the bus, versioned, by family.

`facts` things that happened; `requests` what a till may ask and the parameters of each operation; `replies` the one
answer form and the problem codes; `statuses` what the gateway, devices and tills say of themselves; `scans` codes and
weights on their way to a till; `prices` signed price versions; `links` what edge and bridge tell each other.

A new message is one class in its family, one topic function if it has a topic of its own, and one golden sample in
``tests/edge/golden/``.
"""
