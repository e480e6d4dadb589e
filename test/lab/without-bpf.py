"""Runs a program to which the kernel has no bpf(2), as one without CONFIG_BPF_SYSCALL (x86-64).

    without-bpf.py PROGRAM ARGUMENT…
"""
import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SYS_BPF = 321
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000

# struct sock_filter: the number of the call; is it bpf? then ENOSYS.
PROGRAM = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in [(0x20, 0, 0, 0), (0x15, 0, 1, SYS_BPF), (0x06, 0, 0, RET_ERRNO | errno.ENOSYS), (0x06, 0, 0, RET_ALLOW)]
)

libc = ctypes.CDLL(None, use_errno=True)
text = ctypes.create_string_buffer(PROGRAM)
filter_of = struct.pack("HxxxxxxQ", len(PROGRAM) // 8, ctypes.addressof(text))
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_of, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
