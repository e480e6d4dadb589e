#include "privileges.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "fd.h"

namespace lb4 {
namespace {

constexpr const char* SELF = "/proc/self/exe";

struct Capabilities {
  uint64_t effective;
  uint64_t permitted;
};

// Of the calling thread.
Capabilities capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  check(static_cast<int>(::syscall(SYS_capget, &header, data)), "capget()");
  return {data[0].effective | static_cast<uint64_t>(data[1].effective) << 32,
          data[0].permitted | static_cast<uint64_t>(data[1].permitted) << 32};
}

// Both sets of the calling thread; none is inherited by programs that are not root's.
void setCapabilities(const Capabilities& sets) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
    data[i].effective = static_cast<uint32_t>(sets.effective >> 32 * i);
    data[i].permitted = static_cast<uint32_t>(sets.permitted >> 32 * i);
  }
  check(static_cast<int>(::syscall(SYS_capset, &header, data)), "capset()");
}

// Those that the kernel knows, up to the first one that it does not.
void narrowBoundingSet(uint64_t keep) {
  for (uint32_t number = 0; number < MOST_CAPABILITIES; number++) {
    const int isThere = ::prctl(PR_CAPBSET_READ, number, 0, 0, 0);
    if (isThere < 0 && errno == EINVAL) return;
    if (check(isThere, "prctl(PR_CAPBSET_READ)") == 0 || (keep >> number & 1) != 0) continue;
    check(::prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "prctl(PR_CAPBSET_DROP)");
  }
}

// As this process was started, each with its NUL.
std::string commandLine() {
  const Fd file(check(::open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC), "open(/proc/self/cmdline)"));
  std::string text;
  char some[4096];
  for (;;) {
    const ssize_t bytes = ::read(file.get(), some, sizeof some);
    if (bytes < 0 && errno == EINTR) continue;
    if (check(static_cast<int>(bytes), "read(/proc/self/cmdline)") == 0) return text;
    text.append(some, static_cast<size_t>(bytes));
  }
}

std::vector<char*> split(std::string& text) {
  std::vector<char*> words;
  for (size_t at = 0; at < text.size(); at += std::strlen(&text[at]) + 1) words.push_back(&text[at]);
  words.push_back(nullptr);
  return words;
}

// Its own path, by which a process is named (ps(1)), while it still leads there. Throws where neither that nor the link can be executed with
// the capabilities that are to remain: while nothing is given away for good.
std::string program(const Capabilities& have, uint64_t keep) {
  char path[PATH_MAX];
  const ssize_t bytes = check(static_cast<int>(::readlink(SELF, path, sizeof path)), "readlink(/proc/self/exe)");
  const std::string found(path, static_cast<size_t>(bytes));
  setCapabilities({have.effective & keep, have.permitted});
  const bool isThere = ::faccessat(AT_FDCWD, found.c_str(), X_OK, AT_EACCESS) == 0;
  const int error = isThere || ::faccessat(AT_FDCWD, SELF, X_OK, AT_EACCESS) == 0 ? 0 : errno;
  setCapabilities(have);
  if (error != 0) throw SystemError(error, "faccessat(" + found + ")");
  return isThere ? found : SELF;
}

// libuv has all descriptors closed by execve(2).
void keepOpen(int fd) {
  const int flags = ::fcntl(fd, F_GETFD);
  if (flags < 0 && errno == EBADF) return;
  check(flags, "fcntl(F_GETFD)");
  check(::fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC), "fcntl(F_SETFD)");
}

}  // namespace

void confine(uint64_t keep, const std::vector<int>& open) {
  if ((check(::prctl(PR_GET_SECUREBITS, 0, 0, 0, 0), "prctl(PR_GET_SECUREBITS)") & SECBIT_NOROOT) != 0) return;
  std::string line = commandLine();
  const std::vector<char*> arguments = split(line);
  // A title (`NODE_OPTIONS=--title=…`) stands in the place of all words: Node would then run whatever is in the working directory.
  if (arguments.size() < 3 || *arguments[1] == '\0') throw SystemError(EINVAL, "read(/proc/self/cmdline, which a title has replaced)");
  const Capabilities have = capabilities();
  const std::string path = program(have, keep);
  // Without CAP_SETPCAP it stays: no new privileges then hold every program to what its parent has (cap_bprm_creds_from_file).
  if ((have.effective >> CAP_SETPCAP & 1) != 0) narrowBoundingSet(keep);
  check(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)");
  check(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl(PR_CAP_AMBIENT)");
  setCapabilities({have.permitted & keep, have.permitted & keep});
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) keepOpen(fd);
  for (const int fd : open) keepOpen(fd);
  ::execve(path.c_str(), arguments.data(), environ);
  throw SystemError(errno, "execve(" + path + ")");
}

}  // namespace lb4
