#include "shared_memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

namespace lb4 {
namespace {

// What a huge page begins at a multiple of: 2 MiB with pages of 4 KiB. Elsewhere there are none then.
constexpr size_t HUGE_PAGE = size_t{1} << 21;
// madvise(2), since Linux 6.1.
constexpr int COLLAPSE = 25;

// So long a start waits for huge pages at most: where memory is in pieces, the kernel moves others' for each.
constexpr std::chrono::seconds MOST_COLLAPSING{1};

size_t rounded(size_t bytes, size_t to) { return (bytes + to - 1) & ~(to - 1); }

// Room where so many bytes can be mapped so that huge pages fit, reserved until they are: no other thread maps something there meanwhile. Where
// mapping fails it stays so: the kernel may have given it up already, and somebody else have it. Null: there is none.
void* reserve(size_t bytes) {
  const size_t length = rounded(bytes, static_cast<size_t>(::sysconf(_SC_PAGESIZE)));
  void* room = ::mmap(nullptr, length + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return nullptr;
  uint8_t* const begin = static_cast<uint8_t*>(room);
  uint8_t* const place = reinterpret_cast<uint8_t*>(rounded(reinterpret_cast<uintptr_t>(begin), HUGE_PAGE));
  if (place != begin) ::munmap(begin, static_cast<size_t>(place - begin));
  if (place != begin + HUGE_PAGE) ::munmap(place + length, static_cast<size_t>(begin + HUGE_PAGE - place));
  return place;
}

// A flow table is probed at random: huge pages save a TLB miss a probe.
std::shared_ptr<Mapping> map(int fd, size_t bytes) {
  auto mapping = std::make_shared<Mapping>(fd, bytes, "mmap(shared memory)", reserve(bytes));
  // Only advice; most kernels decline it for shared memory (/sys/kernel/mm/transparent_hugepage/shmem_enabled).
  ::madvise(mapping->data(), bytes, MADV_HUGEPAGE);
  return mapping;
}

// Has the kernel make huge pages of what is there, one after the other, as long as there is time: the rest stays small.
void collapse(const Mapping& mapping) {
  const auto end = std::chrono::steady_clock::now() + MOST_COLLAPSING;
  for (size_t at = 0; at + HUGE_PAGE <= mapping.bytes() && std::chrono::steady_clock::now() < end; at += HUGE_PAGE)
    // Any other errno is of this page alone.
    if (::madvise(mapping.data() + at, HUGE_PAGE, COLLAPSE) != 0 && errno == EINVAL) return;
}

// The kernel gives pages when they are first touched, and kills whoever touches more than it has. A file beyond
// RLIMIT_FSIZE raises SIGXFSZ, which ends the process (setrlimit(2)).
void assertRoom(size_t bytes) {
  struct sysinfo info;
  check(::sysinfo(&info), "sysinfo()");
  if (bytes > (uint64_t{info.totalram} + info.totalswap) * info.mem_unit)
    throw SystemError(ENOMEM, "ftruncate(shared memory larger than this host's)");
  rlimit limit;
  check(::getrlimit(RLIMIT_FSIZE, &limit), "getrlimit(RLIMIT_FSIZE)");
  if (bytes > limit.rlim_cur) throw SystemError(EFBIG, "ftruncate(shared memory beyond ulimit -f)");
}

// A file of the process's own user alone, all of it there: nobody else can take pages away, and none is still to be had.
bool isKeptFile(int fd, const struct stat& status) {
  struct statfs system;
  check(::fstatfs(fd, &system), "fstatfs(shared memory)");
  return system.f_type == TMPFS_MAGIC && S_ISREG(status.st_mode) && status.st_uid == ::geteuid() && (status.st_mode & 077) == 0 &&
         status.st_blocks * 512 >= status.st_size;
}

}  // namespace

SharedMemory createSharedMemory(const std::string& name, size_t bytes) {
  assertRoom(bytes);
  Fd fd(check(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create()"));
  // Whoever may look into /proc/PID/fd opens it by its mode, which lets everybody.
  check(::fchmod(fd.get(), S_IRUSR | S_IWUSR), "fchmod(shared memory)");
  check(::ftruncate(fd.get(), static_cast<off_t>(bytes)), "ftruncate(shared memory)");
  check(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), "fcntl(F_ADD_SEALS)");
  auto mapping = map(fd.get(), bytes);
  return {std::move(fd), std::move(mapping)};
}

void allocateFile(int fd, size_t bytes) {
  assertRoom(bytes);
  // Of a file on a tmpfs MADV_COLLAPSE makes huge pages whatever shmem_enabled says, as far as memory is not in pieces, and whoever maps it has
  // them. It takes what has one page at least: with more there would be more to copy.
  for (size_t at = 0; at + HUGE_PAGE <= bytes; at += HUGE_PAGE)
    check(::fallocate(fd, 0, static_cast<off_t>(at), 1), "fallocate(shared memory)");
  check(::ftruncate(fd, static_cast<off_t>(bytes)), "ftruncate(shared memory)");
  collapse(*map(fd, bytes));
  check(::fallocate(fd, 0, 0, static_cast<off_t>(bytes)), "fallocate(shared memory)");
}

std::shared_ptr<Mapping> mapSharedMemory(int fd) {
  const int seals = check(::fcntl(fd, F_GET_SEALS), "fcntl(F_GET_SEALS)");
  struct stat status;
  check(::fstat(fd, &status), "fstat(shared memory)");
  if ((seals & F_SEAL_SHRINK) == 0 && !isKeptFile(fd, status))
    throw SystemError(EINVAL, "mmap(memory neither sealed against shrinking nor a whole file of our own)");
  if (static_cast<double>(status.st_size) > MAX_MEMORY) throw SystemError(EFBIG, "mmap(shared memory)");
  return map(fd, static_cast<size_t>(status.st_size));
}

}  // namespace lb4
