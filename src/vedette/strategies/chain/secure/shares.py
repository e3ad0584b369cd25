"""Secrets in shares: any t of them give a secret of 16 bytes, fewer say nothing about it (Shamir 1979), over GF(2^128)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vedette.errors import MissingExtra
from vedette.message import Array

try:
    from Crypto.Protocol.SecretSharing import Shamir
except ImportError:
    raise MissingExtra("the secure sum needs pycryptodome: pip install 'vedette[privacy]'") from None

__all__ = ["combined", "split"]


def split(secret: bytes, threshold: int, count: int) -> Array:
    """Return [count, 16] uint8: the shares of holders 1, 2, …; `threshold` of them give the secret."""
    shares = Shamir.split(threshold, count, secret, ssss=False)
    return np.frombuffer(b"".join(share for _, share in shares), np.uint8).reshape(count, len(secret))


def combined(holders: Sequence[int], shares: Sequence[bytes]) -> bytes:
    """Return the secret that was split, from exactly `threshold` shares and the numbers of their holders."""
    return Shamir.combine(list(zip(holders, shares, strict=True)), ssss=False)
