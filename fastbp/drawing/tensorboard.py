"""The event files that TensorBoard reads, scalars only: records of protocol buffers, no package needed.

A record (TFRecord): length as uint64, its checksum, the data, their checksum; little-endian. The
checksum is CRC-32C (RFC 3720), rotated right by 15 bits, plus a constant. The data is an Event:
wall_time 1 double, step 2 int64, file_version 3 string, summary 5 { value 1 { tag 1 string,
simple_value 2 float } } (tensorflow/core/util/event.proto, framework/summary.proto).
"""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

from ..writing import append

if TYPE_CHECKING:
    from ..types import FilePath

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected
LARGEST = 3.4028234e38  # of float32
_TABLE = []
for _n in range(256):
    for _ in range(8):
        _n = _n >> 1 ^ (_POLYNOMIAL if _n & 1 else 0)
    _TABLE.append(_n)


def crc32c(data: bytes) -> int:
    """CRC-32C of bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _checksum(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


class EventFile:
    """One event file in a folder, made where it is missing; each scalar is on disk at once."""

    made = 0

    def __init__(self, folder: FilePath) -> None:
        os.makedirs(folder, exist_ok=True)
        EventFile.made += 1
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self.path = os.path.join(folder, f"{name}.{EventFile.made}.v2")
        self._write(_bytes(3, b"brain.Event:2"))

    def scalar(self, tag: str, value: float, step: int) -> None:
        """tag : str; value : number; step : int from 0 on."""
        if abs(value) > LARGEST:
            value = math.copysign(math.inf, value)
        entry = _bytes(1, tag.encode()) + struct.pack("<Bf", 2 << 3 | 5, value)
        self._write(_varint(2 << 3) + _varint(step) + _bytes(5, _bytes(1, entry)))

    def _write(self, event: bytes) -> None:
        event = struct.pack("<Bd", 1 << 3 | 1, time.time()) + event
        length = struct.pack("<Q", len(event))
        append(self.path, length + _checksum(length) + event + _checksum(event))
