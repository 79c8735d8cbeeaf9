"""The private keys of the authorities, which leave their seal only for a signature; and in words why they cannot."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from edge.access.authority_book import Generation
from edge.seal import Seal, Unsealable, sealed_by

if TYPE_CHECKING:
    from edge.access.certificates import Signer


class AuthorityFault(Exception):
    """Nothing can be signed; the text says why and what a person should do."""


class AuthorityKeys:
    """Opens and seals them. `seal` of purpose "authority"; None: the store's key is missing, so nothing is signed."""

    def __init__(self, seal: Seal | None) -> None:
        self._seal = seal

    @property
    def present(self) -> bool:
        """Whether the store's key is there, be it the right one or not."""
        return self._seal is not None

    def signer(self, generation: Generation) -> Signer:
        """Signs as this authority. Raises AuthorityFault."""
        from edge.access import certificates

        return certificates.Signer(generation.certificate, self.opened(generation))

    def opened(self, generation: Generation) -> bytes:
        """The private key (PEM). Raises AuthorityFault."""
        if self._seal is None:
            raise AuthorityFault(
                "the store's key is missing, so the authority cannot sign: put it back (tillgate access key show)"
            )
        try:
            return self._seal.open(base64.b64decode(generation.key), _context(generation.fingerprint))
        except (Unsealable, ValueError) as error:
            raise AuthorityFault(
                f"the store authority's key cannot be opened ({error}): put the store's key back (tillgate access key"
                " show), or make a new authority and enrol every till anew (tillgate access authority rotate --anew)"
            ) from None

    def sealed(self, key: bytes, fingerprint: str) -> str:
        """A private key (PEM) as the book keeps it, in base64. Raises AuthorityFault."""
        if self._seal is None:
            raise AuthorityFault(
                "the store's key is missing, so no authority can be made: put it back (tillgate access key show)"
            )
        return base64.b64encode(self._seal.seal(key, _context(fingerprint))).decode()

    def sealed_anew(self, generation: Generation) -> Generation:
        """The same under the seal's present key; itself where it is that already. Raises AuthorityFault."""
        if self._seal is None or sealed_by(base64.b64decode(generation.key)) == self._seal.key_id:
            return generation
        key = self.sealed(self.opened(generation), generation.fingerprint)
        return generation.model_copy(update={"key": key})


def _context(fingerprint: str) -> bytes:
    return f"authority|{fingerprint}".encode()
