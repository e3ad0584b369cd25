"""What comes along and nothing reads: told once, since the device or the time may be among it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from vedette.edge.decoding import Decoder

__all__ = ["keys_of", "tell_unread"]

log = logging.getLogger(__name__)

MOST = 10
"""Names that are told."""


def tell_unread(names: Iterable[str], decoder: Decoder, device: str) -> None:
    """Log names that neither a feature nor the format wants, unless the format says where both device and time stand.

    Parameters
    ----------
    names
        Of the columns of a file, or of the keys of an object.
    decoder
        Who reads them.
    device
        What the device is called where nothing says it.
    """
    form = decoder.format
    if form.device and form.time:
        return
    paths = [*(form.fields.get(feature.name, feature.name) for feature in decoder.features), form.device, form.time, form.sequence]
    read = {*paths, *(path.partition(".")[0] for path in (*paths, form.readings))}
    if unread := [name for name in dict.fromkeys(names) if name not in read]:
        lacking = [*([] if form.device else [f"the device (all are '{device}')"]), *([] if form.time else ["the time"])]
        asked = " ".join(f"--set format.{key}=NAME" for key in ("device", "time") if not getattr(form, key))
        log.warning(
            "fields are left alone",
            extra={"fields": [name[:40] for name in unread[:MOST]], "hint": f"if one says {' or '.join(lacking)}: {asked}"},
        )


def keys_of(payload: bytes) -> list[str]:
    """Return the keys of a JSON object, or of the first of a list; none where it is neither."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return []
    first = value[0] if isinstance(value, list) and value else value
    return list(first) if isinstance(first, dict) else []
