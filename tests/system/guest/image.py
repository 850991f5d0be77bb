# SPDX-License-Identifier: BSD-3-Clause
"""What the guest boots: Debian's kernel, which is unpacked and not installed, and an initramfs with busybox,
a few tools, the programs of this project with their libraries, and the kernel modules for an NVDIMM, a
virtio disk and virtio NICs."""
import glob
import lzma
import os
import re
import shutil
import subprocess

MODULES = ["nfit", "nd_btt", "nd_pmem", "device_dax", "dax_pmem", "ext4", "crc32c_generic", "virtio_pci", "virtio_blk",
           "virtio_net"]
APPLETS = ["sh", "mount", "umount", "mkdir", "stty", "cat", "ls", "ip", "sleep", "kill", "dd", "grep", "rm", "insmod",
           "mdev", "sync", "touch", "tail", "timeout", "wc", "tr", "cut", "chmod", "stat", "blockdev", "dmesg", "echo",
           "test", "env", "mkfifo", "free", "ps", "truncate", "du", "df", "nproc", "cp", "mv", "seq", "true", "false"]
TOOLS = ["ndctl", "mkfs.ext4"]
# EAL loads every driver that it finds, so the guest has only those that are used.
DPDK_DRIVERS = ["librte_bus_vdev", "librte_mempool_ring", "librte_net_af_packet"]
PACKAGES = ["qemu-system-x86", "ndctl", "busybox-static", "cpio"]


class Unavailable(Exception):
    """Something that the test needs is missing. The test is skipped and says why."""


def need(tool):
    path = shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin")
    if not path:
        raise Unavailable(f"{tool} is not installed (.ci/guest installs: {' '.join(PACKAGES)})")
    return path


def kernel(cache):
    """Returns (image, modules) of the unpacked kernel package below `cache`, as .ci/guest leaves it."""
    images = sorted(glob.glob(os.path.join(cache, "kernel", "boot", "vmlinuz-*")))
    if not images:
        raise Unavailable(f"there is no kernel below {cache} (.ci/guest fetches and unpacks one)")
    release = os.path.basename(images[-1])[len("vmlinuz-"):]
    return images[-1], os.path.join(cache, "kernel", "lib", "modules", release, "kernel")


def uncompressed(image, directory):
    """Returns the ELF file inside a bzImage, which QEMU enters by PVH, because unpacking takes the emulated
    processor longer than the rest of the boot. Returns the image itself if it is packed in another way."""
    with open(image, "rb") as f:
        packed = f.read()
    at = packed.find(b"\xfd7zXZ\0")
    try:
        elf = lzma.LZMADecompressor().decompress(packed[at:]) if at > 0 else b""
    except lzma.LZMAError:
        elf = b""
    if not elf.startswith(b"\x7fELF"):
        return image
    path = os.path.join(directory, "vmlinux")
    with open(path, "wb") as f:
        f.write(elf)
    return path


def module_files(root):
    """Returns the wanted modules in the order in which they load, each behind those that it needs."""
    where = {os.path.basename(p)[:-3].replace("-", "_"): p
             for p in glob.glob(os.path.join(root, "**", "*.ko"), recursive=True)}
    order = []

    def add(name):
        path = where.get(name)
        if path is None or path in order:
            return  # the module is built in, or in the list already
        with open(path, "rb") as f:
            depends = re.search(rb"\0depends=([^\0]*)\0", f.read())
        for needed in filter(None, (depends.group(1).decode() if depends else "").split(",")):
            add(needed.replace("-", "_"))
        order.append(path)

    for name in MODULES:
        add(name)
    for name in ("nd_pmem", "device_dax", "ext4", "virtio_net", "virtio_blk"):
        if name not in where:
            raise Unavailable(f"the kernel below {root} has no module {name}")
    return order


def libraries(programs):
    """Returns every shared library that the programs load, including the loader."""
    found = set()
    for program in programs:
        done = subprocess.run(["ldd", program], capture_output=True, text=True)
        if "not found" in done.stdout:
            raise Unavailable(f"{program} lacks libraries:\n{done.stdout}")
        found |= set(re.findall(r"(/\S+) \(0x", done.stdout))
    return sorted(found)


def build(directory, cache, programs, scripts):
    """Makes the initramfs below `directory` and returns (kernel, initramfs)."""
    image, modules = kernel(cache)
    root = os.path.join(directory, "root")
    for d in ("bin", "modules", "proc", "sys", "dev", "tmp", "pmem", "disk", "run", "etc", "var"):
        os.makedirs(os.path.join(root, d))

    def put(path, to, strip=False):
        target = root + to
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy2(os.path.realpath(path), target)
        if strip:
            subprocess.run(["strip", "--strip-debug", target], check=True)

    os.symlink("/run", os.path.join(root, "var", "run"))
    put(need("busybox"), "/bin/busybox")
    for applet in APPLETS:
        os.symlink("busybox", os.path.join(root, "bin", applet))
    tools = [need(t) for t in TOOLS]
    for tool in tools:
        put(tool, "/bin/" + os.path.basename(tool))
    for program in programs:
        put(program, "/bin/" + os.path.basename(program), strip=True)
    drivers = []
    for name in DPDK_DRIVERS:
        at = glob.glob(f"/usr/lib/*/dpdk/pmds-*/{name}.so*")
        if not at:
            raise Unavailable(f"DPDK's driver {name} is not installed")
        drivers.append(max(at, key=len))  # the longest name has the whole version, which EAL accepts
    for path in libraries(tools + list(programs) + drivers):
        put(path, path)
    for path in drivers:
        put(path, path)
    with open(os.path.join(root, "modules", "order"), "w") as order:
        for path in module_files(modules):
            put(path, "/modules/" + os.path.basename(path))
            order.write(os.path.basename(path) + "\n")
    with open(os.path.join(root, "etc", "mke2fs.conf"), "w") as f:
        f.write("[defaults]\nbase_features = sparse_super,filetype,dir_index,ext_attr\n"
                "[fs_types]\next4 = {\n features = has_journal,extent,flex_bg,uninit_bg\n}\n")
    for script, to in scripts.items():
        put(script, to)
        os.chmod(root + to, 0o755)
    initramfs = os.path.join(directory, "initramfs")
    names = subprocess.run(["find", ".", "-print0"], cwd=root, capture_output=True, check=True).stdout
    with open(initramfs, "wb") as out:
        subprocess.run([need("cpio"), "--null", "--create", "--format=newc", "--quiet"], cwd=root, input=names, stdout=out,
                       check=True)
    shutil.rmtree(root)
    return uncompressed(image, directory), initramfs
