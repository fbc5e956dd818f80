"""What the sinks wrote, read back without their packages' writers: TensorBoard's event files and W&B's transaction logs."""

import struct


def tensorboard(folder):
    """Every Event of a folder's files, in order; records are length, CRC, bytes, CRC."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack("<Q", data[at : at + 8])
            found.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += length + 16
    return found


def scalars(events):
    """(step, tag, value) of every scalar."""
    return [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value if v.HasField("simple_value")]


def wandb(path):
    """Every Record of a .wandb file: LevelDB's log in blocks of 32 KiB, of which the first begins with 7 bytes of W&B's.

    A chunk is CRC, length, kind (1 whole, 2 first, 3 middle, 4 last) and bytes; what is left of a block is zeros.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, found, parts = path.read_bytes(), 7, [], b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            found.append(Record.FromString(parts))
            parts = b""
    return found
