"""What HQ signs: canonical text of one numbered message, addressed to one store or group, in its frame."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from cloud_bridge.hq.downlog import Make
from cloud_bridge.hq.recipients import Recipient
from edge.bus import frame
from edge.bus.envelope import canonical
from edge.bus.messages.signed import Numbered, Signed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def signed(
    stream: str, kind: str, to: Recipient, model: type[Numbered], fields: dict[str, Any], key: Ed25519PrivateKey
) -> Make:
    """A message of `stream` that says `fields` as a `model`; still wants its epoch and number, which are signed too."""

    def make(epoch: str, seq: int) -> bytes:
        message = model.model_validate({**fields, **to.address, "epoch": epoch, "seq": seq})
        text = canonical(message.model_dump(mode="json", exclude_none=True)).decode()
        body = Signed(text=text, signature=base64.b64encode(key.sign(text.encode())).decode())
        header = {"stream": stream, "epoch": epoch, "seq": seq, "kind": kind, **to.header}
        return frame.pack(header, body.model_dump_json().encode())

    return make
