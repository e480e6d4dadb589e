"""Somebody else's BPF program at an interface, which passes everything; it stands there until standard input ends (x86-64).

    foreign.py xdp|tcx|accept DEV        accept: by tcx, and programs behind it do not run

Prints "stands", and for each line that comes "stands" again, or "is gone".
"""
import ctypes
import os
import socket
import struct
import sys

SYS_BPF, PROG_LOAD, OBJ_GET_INFO_BY_FD, LINK_CREATE = 321, 5, 15, 28
# Program type, attach type, what it returns (XDP_PASS, TCX_NEXT, TCX_PASS), flags (XDP_FLAGS_DRV_MODE).
HOOKS = {"xdp": (6, 37, 2, 4), "tcx": (3, 46, 0xFFFFFFFF, 0), "accept": (3, 46, 0, 0)}
TYPE, ATTACH, RESULT, FLAGS = HOOKS[sys.argv[1]]

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    result = libc.syscall(SYS_BPF, command, ctypes.create_string_buffer(attributes, 128), 128)
    if result < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    return result


# r0 = RESULT; exit
code = ctypes.create_string_buffer(struct.pack("<BBhIBBhI", 0xB7, 0, 0, RESULT, 0x95, 0, 0, 0))
license_of = ctypes.create_string_buffer(b"GPL")
# union bpf_attr: prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags, prog_name, prog_ifindex,
# expected_attach_type.
program = bpf(
    PROG_LOAD,
    struct.pack("<IIQQIIQII16sII", TYPE, 2, ctypes.addressof(code), ctypes.addressof(license_of), 0, 0, 0, 0, 0, b"foreign", 0, ATTACH),
)
link = bpf(LINK_CREATE, struct.pack("<IIII", program, socket.if_nametoindex(sys.argv[2]), ATTACH, FLAGS))
print("stands", flush=True)
for _ in sys.stdin:
    # struct bpf_link_info: ifindex is 0 when it has been detached.
    info = ctypes.create_string_buffer(128)
    bpf(OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", link, 128, ctypes.addressof(info)))
    print("stands" if struct.unpack_from("<I", info, 16)[0] else "is gone", flush=True)
