#include "bpf_loader.h"

#include <dlfcn.h>
#include <fcntl.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "error.h"

namespace lb4 {
namespace {

struct bpf_object;
struct bpf_program;
struct bpf_map;

// bpf/libbpf.h, as of libbpf 1.0; `size` says how much of a structure the caller knows.
struct TcHook {
  size_t size = sizeof(TcHook);
  int ifindex;
  int attach_point = 1;  // BPF_TC_INGRESS
  uint32_t parent = 0;
  // libbpf wants nothing but zeros behind what it knows, up to `size`.
  uint32_t zero = 0;
};

struct TcOptions {
  size_t size = sizeof(TcOptions);
  int prog_fd = 0;
  uint32_t flags = 0;
  uint32_t prog_id = 0;
  uint32_t handle = 1;
  // Behind those that others make without a priority of their own (the kernel counts down from 49152): what they drop stays dropped.
  uint32_t priority = 60928;
  uint32_t zero = 0;
};

constexpr uint32_t REPLACE = 1;  // BPF_TC_F_REPLACE
constexpr size_t MOST_MESSAGE = 256;

enum Level { WARN };
using Print = int (*)(Level, const char*, va_list);

class Libbpf {
 public:
  // Throws ENOENT where there is none.
  static const Libbpf& get() {
    static const Libbpf library;
    return library;
  }

  bpf_object* (*open)(const void* bytes, size_t size, const void* options);
  int (*load)(bpf_object*);
  void (*close)(bpf_object*);
  bpf_program* (*findProgram)(const bpf_object*, const char* name);
  int (*programFd)(const bpf_program*);
  bpf_map* (*findMap)(const bpf_object*, const char* name);
  int (*mapFd)(const bpf_map*);
  int (*setEntries)(bpf_map*, uint32_t);
  int (*reuse)(bpf_map*, int fd);
  int (*setValue)(bpf_map*, const void* bytes, size_t size);
  int (*createTcHook)(TcHook*);
  int (*attachTc)(const TcHook*, TcOptions*);
  int (*detachTc)(const TcHook*, const TcOptions*);
  int (*queryTc)(const TcHook*, TcOptions*);
  int (*queryXdp)(int ifindex, int flags, uint32_t* id);

 private:
  Libbpf() : handle_(::dlopen("libbpf.so.1", RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) throw SystemError(ENOENT, "dlopen(libbpf.so.1, package libbpf1)");
    find(open, "bpf_object__open_mem");
    find(load, "bpf_object__load");
    find(close, "bpf_object__close");
    find(findProgram, "bpf_object__find_program_by_name");
    find(programFd, "bpf_program__fd");
    find(findMap, "bpf_object__find_map_by_name");
    find(mapFd, "bpf_map__fd");
    find(setEntries, "bpf_map__set_max_entries");
    find(reuse, "bpf_map__reuse_fd");
    find(setValue, "bpf_map__set_initial_value");
    find(createTcHook, "bpf_tc_hook_create");
    find(attachTc, "bpf_tc_attach");
    find(detachTc, "bpf_tc_detach");
    find(queryTc, "bpf_tc_query");
    find(queryXdp, "bpf_xdp_query_id");
    Print (*setPrint)(Print);
    find(setPrint, "libbpf_set_print");
    setPrint(print);
  }

  template <class Function>
  void find(Function*& function, const char* name) {
    function = reinterpret_cast<Function*>(::dlsym(handle_, name));
    if (function == nullptr) throw SystemError(ENOSYS, std::string("dlsym(libbpf.so.1, ") + name + ")");
  }

  static int print(Level, const char* format, va_list arguments);

  void* handle_;
};

// What libbpf says goes to nobody's terminal; the first warning of a call, which names the cause (those behind it, what became
// of it), is told with an error. By thread, as the calls are. Maps need no RLIMIT_MEMLOCK since Linux 5.11, but libbpf asks.
thread_local std::string said;

int Libbpf::print(Level level, const char* format, va_list arguments) {
  if (level != WARN || !said.empty() || std::strstr(format, "bump RLIMIT_MEMLOCK") != nullptr) return 0;
  char line[MOST_MESSAGE];
  std::vsnprintf(line, sizeof line, format, arguments);
  said = line;
  while (!said.empty() && said.back() == '\n') said.pop_back();
  return 0;
}

// For a call of its own: what was said before is not about it.
const Libbpf& libbpf() {
  said.clear();
  return Libbpf::get();
}

int demand(int result, const char* attempted) {
  // libbpf 1.0: negative errno.
  if (result >= 0) return result;
  throw SystemError(-result, said.empty() ? attempted : std::string(attempted) + ": " + said);
}

// Closes it and all descriptors in it that were not duplicated.
class Object {
 public:
  Object(const Libbpf& library, const std::vector<uint8_t>& bytes) : library_(library) {
    object_ = library.open(bytes.data(), bytes.size(), nullptr);
    if (object_ == nullptr) throw SystemError(errno, "bpf_object__open_mem(lb4.bpf.o)");
  }
  Object(const Object&) = delete;
  ~Object() { library_.close(object_); }

  bpf_map* map(const char* name) const {
    bpf_map* found = library_.findMap(object_, name);
    if (found == nullptr) throw SystemError(ENOENT, std::string("bpf_object__find_map_by_name(") + name + ")");
    return found;
  }

  void load() const { demand(library_.load(object_), "bpf_object__load()"); }

  Fd ofMap(const char* name) const { return duplicate(library_.mapFd(map(name))); }

  Fd ofProgram(const char* name) const {
    const bpf_program* program = library_.findProgram(object_, name);
    if (program == nullptr) throw SystemError(ENOENT, std::string("bpf_object__find_program_by_name(") + name + ")");
    return duplicate(library_.programFd(program));
  }

 private:
  static Fd duplicate(int fd) { return Fd(check(::fcntl(fd, F_DUPFD_CLOEXEC, 3), "fcntl(F_DUPFD_CLOEXEC)")); }

  const Libbpf& library_;
  bpf_object* object_;
};

void prepareMap(const Libbpf& library, bpf_map* map, uint32_t entries, int given) {
  if (given >= 0) demand(library.reuse(map, given), "bpf_map__reuse_fd()");
  else demand(library.setEntries(map, entries), "bpf_map__set_max_entries()");
}

TcHook hookOf(int32_t ifindex) {
  TcHook hook;
  hook.ifindex = ifindex;
  return hook;
}

}  // namespace

FastPath loadFastPath(const std::vector<uint8_t>& bytes, FastPathSizes sizes, const std::vector<uint8_t>& settings, int flows, int hops,
                      int counts) {
  const Libbpf& library = libbpf();
  const Object object(library, bytes);
  prepareMap(library, object.map("flows"), sizes.flows, flows);
  prepareMap(library, object.map("hops"), sizes.hops, hops);
  prepareMap(library, object.map("syns"), sizes.syns, -1);
  prepareMap(library, object.map("drops"), sizes.drops, -1);
  if (counts >= 0) demand(library.reuse(object.map("counts"), counts), "bpf_map__reuse_fd()");
  demand(library.setValue(object.map(".rodata"), settings.data(), settings.size()), "bpf_map__set_initial_value(settings)");
  object.load();
  return {object.ofMap("flows"), object.ofMap("hops"), object.ofMap("counts"), object.ofMap("links"), object.ofMap("syns"),
          object.ofMap("books"), object.ofMap("drops"), object.ofProgram("lb4_tc"), object.ofProgram("lb4_xdp"), object.ofProgram("lb4_tap")};
}

bool attachClsact(int program, int32_t ifindex) {
  const Libbpf& library = libbpf();
  TcHook hook = hookOf(ifindex);
  const int made = library.createTcHook(&hook);
  if (made != -EEXIST) demand(made, "bpf_tc_hook_create(clsact)");
  TcOptions options;
  options.prog_fd = program;
  options.flags = REPLACE;
  demand(libbpf().attachTc(&hook, &options), "bpf_tc_attach()");
  return made != -EEXIST;
}

uint32_t clsactProgram(int32_t ifindex) {
  const TcHook hook = hookOf(ifindex);
  TcOptions options;
  return libbpf().queryTc(&hook, &options) == 0 ? options.prog_id : 0;
}

uint32_t xdpProgram(int32_t ifindex) {
  uint32_t id = 0;
  demand(libbpf().queryXdp(ifindex, 0, &id), "bpf_xdp_query_id()");
  return id;
}

void detachClsact(int32_t ifindex) {
  const TcHook hook = hookOf(ifindex);
  const TcOptions options;
  const int result = libbpf().detachTc(&hook, &options);
  if (result != -ENOENT && result != -EINVAL && result != -ENODEV) demand(result, "bpf_tc_detach()");
}

}  // namespace lb4
