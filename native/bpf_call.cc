#include "bpf_call.h"

#include <linux/bpf.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>

#include "error.h"

namespace lb4 {
namespace {

// enum bpf_attach_type: BPF_XDP is there since Linux 5.2, BPF_TCX_INGRESS since 6.6.
constexpr uint32_t XDP = 37;
constexpr uint32_t TCX_INGRESS = 46;
// linux/bpf.h has it since 6.6: BPF_F_BEFORE, without a program to stand before: before all.
constexpr uint32_t BEFORE = 1 << 3;
// linux/if_link.h: XDP_FLAGS_DRV_MODE.
constexpr uint32_t DRIVER_MODE = 1 << 2;
constexpr size_t MOST_FRAME = 4096;
// linux/bpf_mprog.h: BPF_MPROG_MAX.
constexpr size_t MOST_PROGRAMS = 64;

int bpf(enum bpf_cmd command, bpf_attr& attr, const char* attempted) {
  return check(static_cast<int>(::syscall(SYS_bpf, command, &attr, sizeof attr)), attempted);
}

uint64_t pointer(const void* to) { return reinterpret_cast<uint64_t>(to); }

template <class Info>
Info infoOf(int fd, const char* attempted) {
  Info info{};
  bpf_attr attr{};
  attr.info.bpf_fd = static_cast<uint32_t>(fd);
  attr.info.info_len = sizeof info;
  attr.info.info = pointer(&info);
  bpf(BPF_OBJ_GET_INFO_BY_FD, attr, attempted);
  return info;
}

size_t possibleCpus() {
  // "0-7" or "0,2-3": the last number counts (Documentation/ABI/testing/sysfs-devices-system-cpu).
  std::ifstream file("/sys/devices/system/cpu/possible");
  std::string text;
  if (!std::getline(file, text) || text.empty()) throw SystemError(ENOENT, "open(/sys/devices/system/cpu/possible)");
  const size_t at = text.find_last_of("-,");
  return std::strtoul(text.c_str() + (at == std::string::npos ? 0 : at + 1), nullptr, 10) + 1;
}

}  // namespace

std::shared_ptr<Mapping> mapArray(int map) {
  const auto info = infoOf<bpf_map_info>(map, "bpf(BPF_OBJ_GET_INFO_BY_FD, map)");
  if (info.type != BPF_MAP_TYPE_ARRAY || !(info.map_flags & BPF_F_MMAPABLE)) throw SystemError(EINVAL, "mmap(not a mappable BPF array)");
  const size_t element = (size_t{info.value_size} + 7) & ~size_t{7};
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t bytes = (element * info.max_entries + page - 1) / page * page;
  return std::make_shared<Mapping>(map, bytes, "mmap(BPF array)");
}

uint32_t mapId(int map) { return infoOf<bpf_map_info>(map, "bpf(BPF_OBJ_GET_INFO_BY_FD, map)").id; }

void pinBpf(int fd, const std::string& path) {
  bpf_attr attr{};
  attr.pathname = pointer(path.c_str());
  attr.bpf_fd = static_cast<uint32_t>(fd);
  bpf(BPF_OBJ_PIN, attr, "bpf(BPF_OBJ_PIN)");
}

Fd openPinned(const std::string& path) {
  bpf_attr attr{};
  attr.pathname = pointer(path.c_str());
  return Fd(bpf(BPF_OBJ_GET, attr, "bpf(BPF_OBJ_GET)"));
}

Fd linkProgram(int program, int32_t ifindex, Hook hook, bool isFirst) {
  bpf_attr attr{};
  attr.link_create.prog_fd = static_cast<uint32_t>(program);
  attr.link_create.target_ifindex = static_cast<uint32_t>(ifindex);
  attr.link_create.attach_type = hook == Hook::tcx ? TCX_INGRESS : XDP;
  attr.link_create.flags = hook == Hook::xdp ? DRIVER_MODE : isFirst ? BEFORE : 0;
  return Fd(bpf(BPF_LINK_CREATE, attr, hook == Hook::tcx ? "bpf(BPF_LINK_CREATE, tcx)" : "bpf(BPF_LINK_CREATE, XDP)"));
}

void updateLink(int link, int program) {
  bpf_attr attr{};
  attr.link_update.link_fd = static_cast<uint32_t>(link);
  attr.link_update.new_prog_fd = static_cast<uint32_t>(program);
  bpf(BPF_LINK_UPDATE, attr, "bpf(BPF_LINK_UPDATE)");
}

int32_t linkedInterface(int link) {
  // xdp.ifindex and tcx.ifindex are both the first word of the union.
  return static_cast<int32_t>(infoOf<bpf_link_info>(link, "bpf(BPF_OBJ_GET_INFO_BY_FD, link)").xdp.ifindex);
}

void detachLink(int link) {
  bpf_attr attr{};
  attr.link_detach.link_fd = static_cast<uint32_t>(link);
  bpf(BPF_LINK_DETACH, attr, "bpf(BPF_LINK_DETACH)");
}

std::vector<uint32_t> tcxPrograms(int32_t ifindex) {
  std::vector<uint32_t> ids(MOST_PROGRAMS);
  bpf_attr attr{};
  // The same place as target_ifindex, which linux/bpf.h has since 6.6.
  attr.query.target_fd = static_cast<uint32_t>(ifindex);
  attr.query.attach_type = TCX_INGRESS;
  attr.query.prog_ids = pointer(ids.data());
  attr.query.prog_cnt = static_cast<uint32_t>(ids.size());
  bpf(BPF_PROG_QUERY, attr, "bpf(BPF_PROG_QUERY, tcx)");
  ids.resize(attr.query.prog_cnt);
  return ids;
}

std::vector<Fd> openLinks(uint32_t program) {
  std::vector<Fd> found;
  for (bpf_attr ids{}; ::syscall(SYS_bpf, BPF_LINK_GET_NEXT_ID, &ids, sizeof ids) == 0; ids.start_id = ids.next_id) {
    bpf_attr attr{};
    attr.link_id = ids.next_id;
    const int fd = static_cast<int>(::syscall(SYS_bpf, BPF_LINK_GET_FD_BY_ID, &attr, sizeof attr));
    // It has just gone.
    if (fd < 0 && (errno == ENOENT || errno == EAGAIN)) continue;
    Fd link(check(fd, "bpf(BPF_LINK_GET_FD_BY_ID)"));
    if (infoOf<bpf_link_info>(link.get(), "bpf(BPF_OBJ_GET_INFO_BY_FD, link)").prog_id == program) found.push_back(std::move(link));
  }
  if (errno != ENOENT) throw SystemError(errno, "bpf(BPF_LINK_GET_NEXT_ID)");
  return found;
}

std::string programName(uint32_t id) {
  bpf_attr attr{};
  attr.prog_id = id;
  const int fd = static_cast<int>(::syscall(SYS_bpf, BPF_PROG_GET_FD_BY_ID, &attr, sizeof attr));
  if (fd < 0) return "program " + std::to_string(id);
  const Fd program(fd);
  return infoOf<bpf_prog_info>(program.get(), "bpf(BPF_OBJ_GET_INFO_BY_FD, program)").name;
}

void setElement(int map, uint32_t key, const std::vector<uint8_t>& value) {
  bpf_attr attr{};
  attr.map_fd = static_cast<uint32_t>(map);
  attr.key = pointer(&key);
  attr.value = pointer(value.data());
  bpf(BPF_MAP_UPDATE_ELEM, attr, "bpf(BPF_MAP_UPDATE_ELEM)");
}

Fd createArray(const std::vector<uint8_t>& bytes) {
  bpf_attr attr{};
  attr.map_type = BPF_MAP_TYPE_ARRAY;
  attr.key_size = sizeof(uint32_t);
  attr.value_size = sizeof(uint64_t);
  attr.max_entries = static_cast<uint32_t>((bytes.size() + sizeof(uint64_t) - 1) / sizeof(uint64_t));
  // As the map of maps has them (native/bpf/access.h).
  attr.map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP;
  Fd map(bpf(BPF_MAP_CREATE, attr, "bpf(BPF_MAP_CREATE, array)"));
  std::memcpy(mapArray(map.get())->data(), bytes.data(), bytes.size());
  return map;
}

std::vector<uint64_t> perCpuSums(int map, uint32_t key, size_t count) {
  const auto info = infoOf<bpf_map_info>(map, "bpf(BPF_OBJ_GET_INFO_BY_FD, map)");
  // Of each processor the kernel gives all, and takes the room for granted.
  const size_t each = (size_t{info.value_size} + sizeof(uint64_t) - 1) / sizeof(uint64_t);
  if (info.type != BPF_MAP_TYPE_PERCPU_ARRAY || count > each) throw SystemError(EINVAL, "bpf(not such a per-CPU array)");
  static const size_t processors = possibleCpus();
  std::vector<uint64_t> values(processors * each);
  bpf_attr attr{};
  attr.map_fd = static_cast<uint32_t>(map);
  attr.key = pointer(&key);
  attr.value = pointer(values.data());
  bpf(BPF_MAP_LOOKUP_ELEM, attr, "bpf(BPF_MAP_LOOKUP_ELEM)");
  std::vector<uint64_t> sums(count);
  for (size_t at = 0; at < values.size(); at += each)
    for (size_t i = 0; i < count; i++) sums[i] += values[at + i];
  return sums;
}

void filterBy(int socket, int program) {
  check(::setsockopt(socket, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program), "setsockopt(SO_ATTACH_BPF)");
}

TestRun testRun(int program, const std::vector<uint8_t>& frame, int32_t ifindex, uint32_t gsoSize, uint32_t repeat) {
  const auto type = infoOf<bpf_prog_info>(program, "bpf(BPF_OBJ_GET_INFO_BY_FD, program)").type;
  std::vector<uint8_t> out(frame.size() + MOST_FRAME);
  __sk_buff skb{};
  skb.ifindex = static_cast<uint32_t>(ifindex);
  skb.gso_size = gsoSize;
  xdp_md xdp{};
  xdp.ingress_ifindex = static_cast<uint32_t>(ifindex);
  xdp.data_end = static_cast<uint32_t>(frame.size());
  bpf_attr attr{};
  attr.test.prog_fd = static_cast<uint32_t>(program);
  attr.test.data_in = pointer(frame.data());
  attr.test.data_size_in = static_cast<uint32_t>(frame.size());
  attr.test.data_out = pointer(out.data());
  attr.test.data_size_out = static_cast<uint32_t>(out.size());
  attr.test.repeat = repeat;
  if (type == BPF_PROG_TYPE_XDP) {
    attr.test.ctx_in = pointer(&xdp);
    attr.test.ctx_size_in = sizeof xdp;
  } else {
    attr.test.ctx_in = pointer(&skb);
    attr.test.ctx_size_in = sizeof skb;
  }
  bpf(BPF_PROG_TEST_RUN, attr, "bpf(BPF_PROG_TEST_RUN)");
  out.resize(attr.test.data_size_out);
  return {attr.test.retval, std::move(out), attr.test.duration};
}

}  // namespace lb4
