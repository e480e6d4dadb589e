#include "descriptor.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

namespace lb4 {
namespace {

// Memory as createSharedMemory() makes it.
bool isSealed(int fd) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  constexpr int OURS = F_SEAL_SEAL | F_SEAL_SHRINK;  // a file on a tmpfs has F_SEAL_SEAL too
  return seals > 0 && (seals & OURS) == OURS;
}

// An inode without a type is an anonymous one (eventfd, epoll, timerfd …), and of those only an eventfd takes eight bytes.
bool mayBeEventFd(int fd) {
  struct stat status;
  check(::fstat(fd, &status), "fstat(eventfd)");
  return (status.st_mode & S_IFMT) == 0 && (check(::fcntl(fd, F_GETFL), "fcntl(F_GETFL)") & O_NONBLOCK) != 0;
}

}  // namespace

bool hasSocketOption(int fd, int option, int wanted) {
  int value = 0;
  socklen_t bytes = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &bytes) == 0 && value == wanted;
}

bool isListening(int fd) { return hasSocketOption(fd, SO_ACCEPTCONN, 1); }

void closeOurs(int fd) {
  check(::fcntl(fd, F_GETFD), "close()");
  if (!isSealed(fd) && !isListening(fd)) throw SystemError(EINVAL, "close(neither shared memory nor a listening socket)");
  check(::close(fd), "close()");
}

void wake(int fd) {
  if (!mayBeEventFd(fd)) throw SystemError(EINVAL, "write(not a non-blocking eventfd)");
  // EAGAIN: the counter is full, so whoever waits is awake already (eventfd(2)).
  if (::eventfd_write(fd, 1) < 0 && errno != EAGAIN) throw SystemError(errno, "write(eventfd)");
}

}  // namespace lb4
