#include "file_lock.h"

#include <fcntl.h>

#include "error.h"

namespace lb4 {
namespace {

// The whole file, however long it gets. l_pid must be 0 (fcntl(2)).
flock wholeFile() {
  flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

}  // namespace

bool tryLockFile(int fd) {
  flock lock = wholeFile();
  if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  throw SystemError(errno, "fcntl(F_OFD_SETLK)");
}

void unlockFile(int fd) {
  flock lock = wholeFile();
  lock.l_type = F_UNLCK;
  check(::fcntl(fd, F_OFD_SETLK, &lock), "fcntl(F_OFD_SETLK)");
}

bool isFileLocked(int fd) {
  flock lock = wholeFile();
  check(::fcntl(fd, F_OFD_GETLK, &lock), "fcntl(F_OFD_GETLK)");
  return lock.l_type != F_UNLCK;
}

}  // namespace lb4
