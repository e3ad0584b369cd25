"""Protobuf messages by a table of their fields, so that no generated code has to fit the library's version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["messages"]


def messages(package: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """Return message classes by name.

    Parameters
    ----------
    package
        Their package, under `package` nobody else may define messages.
    fields
        By message: lines of ``number name type``, where the type is a scalar of protobuf or another of the messages; ``*`` behind the
        type: repeated. Fields that are not named are passed over when a message is read. All know whether they were set.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for name, lines in fields.items():
        message = file.message_type.add(name=name)
        for line in lines.strip().splitlines():
            number, field, kind = line.split()
            label = kinds.LABEL_REPEATED if kind.endswith("*") else kinds.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            about: dict[str, Any] = {"type": kinds.TYPE_MESSAGE, "type_name": f".{package}.{kind}"}
            if kind not in fields:
                about = {"type": kinds.Type.Value(f"TYPE_{kind.upper()}")}
            message.field.add(name=field, number=int(number), label=label, **about)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in fields}
