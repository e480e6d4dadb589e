// libbpf, found at run time: who has iproute2 has it, and nobody else needs it. It reads the compiled programs, and asks netlink for what
// has no bpf(2) call.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fd.h"

namespace lb4 {

struct FastPathSizes {
  // Elements of the maps.
  uint32_t flows;
  uint32_t hops;
  uint32_t syns;
  uint32_t drops;
};

struct FastPath {
  Fd flows, hops, counts, links, syns, books, drops;
  Fd tc, xdp, tap;
};

// Loads native/bpf/lb4.bpf.c as compiled. `settings` are the bytes of struct settings (native/bpf/settings.h). Maps that are given (0 or
// more: a descriptor, which stays the caller's) take the place of new ones. Where the kernel refuses, the error ends with the last line that
// libbpf has said.
FastPath loadFastPath(const std::vector<uint8_t>& object, FastPathSizes sizes, const std::vector<uint8_t>& settings, int flows, int hops,
                      int counts);

// cls_bpf at the ingress of an interface, on its clsact qdisc, which is made where it is not there: for kernels without tcx. It stands under a
// priority and handle of lb4's own, and takes the place of one that was there. Whether the qdisc was made.
bool attachClsact(int program, int32_t ifindex);
// The qdisc stays. Nothing there: no error.
void detachClsact(int32_t ifindex);
// The id of lb4's program there; 0: none.
uint32_t clsactProgram(int32_t ifindex);

// The id of the program that a driver runs at an interface; 0: none.
uint32_t xdpProgram(int32_t ifindex);

}  // namespace lb4
