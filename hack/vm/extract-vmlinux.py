#!/usr/bin/env python3
"""Takes the uncompressed ELF kernel out of a bzImage: extract-vmlinux.py BZIMAGE OUT.

With an entry for PVH in it qemu starts it directly.
"""

import lzma
import struct
import sys
import zlib


def payload(image):
    """The compressed kernel, by the boot protocol's own header (version 2.08)."""
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    return image[start:start + length]


def unpacked(data):
    if data[:6] == b"\xfd7zXZ\x00":
        # Four bytes with the size follow the stream.
        return lzma.LZMADecompressor().decompress(data)
    if data[:2] == b"\x1f\x8b":
        return zlib.decompressobj(31).decompress(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        import subprocess
        return subprocess.run(["zstd", "-dc"], input=data[:-4], capture_output=True, check=True).stdout
    sys.exit(f"a kernel compressed in an unknown way: {data[:6].hex()}")


def main():
    source, target = sys.argv[1:]
    with open(source, "rb") as file:
        kernel = unpacked(payload(file.read()))
    if kernel[:4] != b"\x7fELF":
        sys.exit(f"{source}: what was unpacked is no ELF file")
    with open(target, "wb") as file:
        file.write(kernel)


main()
