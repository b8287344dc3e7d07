"""Triton's model configuration as protobuf knows it: the fields of ``model_config.proto`` that a plain model needs.

Names, numbers and types of the fields are those of
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto, so protobuf's own parser says
whether Triton could read a ``config.pbtxt``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_SCALARS = {"string": 9, "int32": 5, "int64": 3, "uint64": 4, "bool": 8}
_TYPES = (
    "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
    "STRING", "BF16",
)  # fmt: skip
_KINDS = ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL")
# message: (field, number, type, repeated)
_MESSAGES: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "ModelInput": (("name", 1, "string", False), ("data_type", 2, "DataType", False), ("dims", 4, "int64", True)),
    "ModelOutput": (
        ("name", 1, "string", False), ("data_type", 2, "DataType", False), ("dims", 3, "int64", True),
        ("label_filename", 4, "string", False),
    ),
    "ModelInstanceGroup": (("name", 1, "string", False), ("count", 2, "int32", False), ("kind", 4, "Kind", False)),
    "ModelDynamicBatching": (
        ("preferred_batch_size", 1, "int32", True), ("max_queue_delay_microseconds", 2, "uint64", False),
    ),
    "ModelParameter": (("string_value", 1, "string", False),),
    "ParametersEntry": (("key", 1, "string", False), ("value", 2, "ModelParameter", False)),
    "ModelConfig": (
        ("name", 1, "string", False), ("platform", 2, "string", False), ("backend", 17, "string", False),
        ("max_batch_size", 4, "int32", False), ("input", 5, "ModelInput", True), ("output", 6, "ModelOutput", True),
        ("dynamic_batching", 11, "ModelDynamicBatching", False), ("instance_group", 7, "ModelInstanceGroup", True),
        ("default_model_filename", 8, "string", False), ("parameters", 14, "ParametersEntry", True),
    ),
}  # fmt: skip


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="triton_config.proto", package="planted", syntax="proto3")
    for name, values in {"DataType": tuple(f"TYPE_{v}" for v in _TYPES), "Kind": _KINDS}.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            added = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in _SCALARS:
                added.type = _SCALARS[kind]
            else:
                added.type = 14 if kind in ("DataType", "Kind") else 11
                added.type_name = f".planted.{kind}"
    return file


def parse(path: Path) -> Any:
    """The configuration in a ``config.pbtxt``; protobuf's `ParseError` for anything that Triton would not read."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("planted.ModelConfig"))
    return text_format.Parse(path.read_text(encoding="utf-8"), kind())
