"""Keys that two nodes agree on, what is sealed with them, and the streams of masks drawn from them.

X25519 (RFC 7748) and HKDF-SHA256 (RFC 5869) make a key of 16 bytes that two nodes have and nobody else; AES-128-GCM seals what one sends
the other; AES-128-CTR is the generator that stretches a key into a mask. A private key is itself made from a seed of 16 bytes, so that
one sharing of 16 bytes gives it to whoever puts the seed together again; seeds and keys have the 128 bits of strength that X25519 has.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

import numpy as np

from vedette.errors import MissingExtra
from vedette.message import Array

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CTR
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError:
    raise MissingExtra("the secure sum needs cryptography: pip install 'vedette[privacy]'") from None

__all__ = ["SEALED", "SECRET", "agreed", "committed", "opened", "public_of", "sealed", "stream"]

SECRET = 16
"""Bytes of a seed and of a key."""
NONCE = 12
TAG = 16
SEALED = NONCE + 2 * SECRET + TAG
"""Bytes of two sealed secrets."""


def public_of(seed: bytes) -> bytes:
    """Return the public key (32 bytes) of a seed."""
    return _private(seed).public_key().public_bytes_raw()


def agreed(seed: bytes, theirs: Iterable[bytes], about: bytes) -> list[bytes]:
    """Return the keys that the holder of a seed has in common with the holders of some public keys.

    Parameters
    ----------
    seed
        One's own.
    theirs
        Public keys, 32 bytes each.
    about
        What the keys are for: both sides say the same.

    Raises
    ------
    ValueError
        A public key is none that anybody could have made honestly.
    """
    private = _private(seed)
    return [_derived(private.exchange(X25519PublicKey.from_public_bytes(key)), about, SECRET) for key in theirs]


def committed(secret: bytes) -> bytes:
    """Return what binds to a secret without telling it (32 bytes)."""
    return hashlib.sha256(b"vedette self-mask" + secret).digest()


def sealed(key: bytes, secrets: bytes, about: bytes) -> bytes:
    """Seal secrets so that only a holder of the key reads them, and only as what they are about."""
    nonce = os.urandom(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, secrets, about)


def opened(key: bytes, parcel: bytes, about: bytes) -> bytes | None:
    """Return what was sealed; None if it was sealed with another key, is about something else, or was altered."""
    try:
        return AESGCM(key).decrypt(parcel[:NONCE], parcel[NONCE:], about)
    except InvalidTag:
        return None


def stream(key: bytes, like: Array) -> Array:
    """Return as many words as an array has, uint32 or uint64, that look random to whoever has not the key."""
    # A key gives one stream only, so that it needs no nonce.
    words = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(like.nbytes))
    return np.frombuffer(words, like.dtype.newbyteorder("<"))


def _private(seed: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(_derived(seed, b"vedette private key", 32))


def _derived(secret: bytes, about: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, None, about).derive(secret)
