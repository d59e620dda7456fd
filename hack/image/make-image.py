#!/usr/bin/env python3
"""Makes docker.io/library/busybox:latest out of a static busybox.

    make-image.py BUSYBOX ARCHIVE ROOTFS

ARCHIVE becomes an OCI image layout in a tar file, ROOTFS a directory with the same
files. Like the image of that name it has no /proc, /sys or /etc/hosts: who runs a
container makes those. ROOTFS has the two directories, for it serves read-only too, where
no runtime can make them. The same busybox always gives the same digests.
"""

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile

NAME = "docker.io/library/busybox:latest"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]

DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "home/user": 0o755,
    "root": 0o700, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "usr/sbin": 0o755,
    "usr/local": 0o755, "usr/local/bin": 0o755, "var": 0o755, "var/spool": 0o755,
}
OWNERS = {"home/user": 1000}
FILES = {
    "etc/passwd": """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
user:x:1000:1000:user:/home/user:/bin/sh
nobody:x:65534:65534:nobody:/home:/bin/false
""",
    # `user` is in three more groups, so that additional groups have names.
    "etc/group": """root:x:0:
daemon:x:1:
tty:x:5:
disk:x:6:
wheel:x:10:user
www-data:x:33:
video:x:44:user
users:x:100:user
user:x:1000:
nogroup:x:65534:
""",
    "etc/shadow": "root:*:::::::\nuser:*:::::::\nnobody:*:::::::\n",
}
MODES = {"etc/shadow": 0o600}


def entry(name, kind, mode, owner=0):
    """A tar header without anything of this machine or this moment in it."""
    header = tarfile.TarInfo(name)
    header.type, header.mode = kind, mode
    header.uid = header.gid = owner
    header.mtime = 0
    return header


def layer(busybox):
    """The one layer: busybox once, all its names as hard links to it."""
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, mode in DIRECTORIES.items():
            tar.addfile(entry(name, tarfile.DIRTYPE, mode, OWNERS.get(name, 0)))
        with open(busybox, "rb") as binary:
            header = entry("bin/busybox", tarfile.REGTYPE, 0o755)
            header.size = os.fstat(binary.fileno()).st_size
            tar.addfile(header, binary)
        for applet in sorted(set(applets) - {"busybox"}):
            header = entry(f"bin/{applet}", tarfile.LNKTYPE, 0o755)
            header.linkname = "bin/busybox"
            tar.addfile(header)
        header = entry("usr/bin/env", tarfile.LNKTYPE, 0o755)
        header.linkname = "bin/busybox"
        tar.addfile(header)
        for name, text in FILES.items():
            content = text.encode()
            header = entry(name, tarfile.REGTYPE, MODES.get(name, 0o644))
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return out.getvalue()


def descriptor(media, content, **more):
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return {"mediaType": f"application/vnd.oci.image.{media}", "digest": digest, "size": len(content), **more}


def layout(files):
    """The members of an OCI image layout, in the order in which they are written."""
    config = json.dumps({
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": {"Env": [f"PATH={PATH}"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(files).hexdigest()]},
        "history": [{"created_by": "busybox-static", "created": "1970-01-01T00:00:00Z"}],
    }).encode()
    manifest = json.dumps({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config),
        "layers": [descriptor("layer.v1.tar", files)],
    }).encode()
    index = json.dumps({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor(
            "manifest.v1+json", manifest,
            platform={"architecture": ARCHITECTURE, "os": "linux"},
            annotations={"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "latest"},
        )],
    }).encode()
    yield "oci-layout", b'{"imageLayoutVersion":"1.0.0"}'
    yield "index.json", index
    for blob in (manifest, config, files):
        yield "blobs/sha256/" + hashlib.sha256(blob).hexdigest(), blob


def main():
    busybox, archive, rootfs = sys.argv[1:]
    files = layer(busybox)
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("blobs", "blobs/sha256"):
            tar.addfile(entry(name, tarfile.DIRTYPE, 0o755))
        for name, content in layout(files):
            header = entry(name, tarfile.REGTYPE, 0o644)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    os.makedirs(rootfs)
    with tarfile.open(fileobj=io.BytesIO(files)) as tar:
        tar.extractall(rootfs, numeric_owner=True)
    for name in ("proc", "sys"):
        os.mkdir(os.path.join(rootfs, name), 0o755)


main()
