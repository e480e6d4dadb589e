// bpf(2) itself: what needs no ELF file. Numbers that linux/bpf.h has only since later are in bpf_call.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fd.h"

namespace lb4 {

// Where a program stands.
enum class Hook { tcx, xdp };

// A whole BPF_F_MMAPABLE array, writable; its elements one after the other, each at a multiple of eight bytes.
std::shared_ptr<Mapping> mapArray(int map);

// What tells a map from every other since the host has started.
uint32_t mapId(int map);

// BPF_OBJ_PIN, BPF_OBJ_GET: a file on a bpffs that keeps a map, program or link alive.
void pinBpf(int fd, const std::string& path);
Fd openPinned(const std::string& path);

// BPF_LINK_CREATE: the program runs at an interface's ingress for as long as the link lives. Behind those that others have attached there,
// or before them (tcx); EBUSY where the hook takes only one (XDP, in the driver itself, never on a socket buffer).
Fd linkProgram(int program, int32_t ifindex, Hook hook, bool isFirst);
// BPF_LINK_UPDATE: another program in its place, without a packet that meets none.
void updateLink(int link, int program);
// The interface of a link; 0 where that is gone, or somebody has detached the link.
int32_t linkedInterface(int link);
// BPF_LINK_DETACH: the program runs there no more, whoever still has the link, or a pin of it. Detached already: no error.
void detachLink(int link);
// BPF_PROG_QUERY: ids of the programs at an interface's ingress, by tcx. EINVAL before Linux 6.6.
std::vector<uint32_t> tcxPrograms(int32_t ifindex);
// All links that a program has, by its id. EPERM without CAP_SYS_ADMIN.
std::vector<Fd> openLinks(uint32_t program);

// The name of a program by its id; its number where this process may not ask (CAP_SYS_ADMIN).
std::string programName(uint32_t id);

// The value of an array's element.
void setElement(int map, uint32_t key, const std::vector<uint8_t>& value);
// A new array of these bytes, elements of eight, which may take the place of another one in a map of maps, whatever its size (Linux 5.10).
Fd createArray(const std::vector<uint8_t>& bytes);
// The first numbers of an element of a per-CPU array, each summed over all processors. EINVAL where it has fewer.
std::vector<uint64_t> perCpuSums(int map, uint32_t key, size_t count);

struct TestRun {
  uint32_t verdict;
  std::vector<uint8_t> frame;
  // Of one run, in nanoseconds.
  uint32_t duration;
};

// socket(7), SO_ATTACH_BPF: a program in the place of a socket's filter, which takes effect at once.
void filterBy(int socket, int program);

// BPF_PROG_TEST_RUN: what a program does with a frame that came in by an interface, `repeat` times (only the first sees it as it was).
TestRun testRun(int program, const std::vector<uint8_t>& frame, int32_t ifindex, uint32_t gsoSize, uint32_t repeat);

}  // namespace lb4
