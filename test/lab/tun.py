"""A cable without Ethernet: a tun device here and one in another network namespace, and every packet carried from one to the other.

    tun.py DEVICE /run/netns/OTHER OTHER_DEVICE
"""
import ctypes
import fcntl
import os
import select
import struct
import sys

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 1, 0x1000
CLONE_NEWNET = 0x40000000


def tun(name):
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


here = tun(sys.argv[1])
with open(sys.argv[2]) as other:
    if ctypes.CDLL(None, use_errno=True).setns(other.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
there = tun(sys.argv[3])
print("ready", flush=True)
while True:
    readable, _, _ = select.select([here, there], [], [])
    for descriptor in readable:
        packet = os.read(descriptor, 65536)
        try:
            os.write(there if descriptor == here else here, packet)
        except OSError:
            pass  # that end is not up yet
