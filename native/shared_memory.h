#pragma once

#include <memory>
#include <string>

#include "fd.h"

namespace lb4 {

struct SharedMemory {
  Fd fd;
  std::shared_ptr<Mapping> mapping;
};

// memfd_create(2): zeroed, sealed against resizing, so that no one who holds the descriptor can make our loads SIGBUS.
SharedMemory createSharedMemory(const std::string& name, size_t bytes);

// Maps it again. Refuses (EINVAL) what is not sealed like the above.
std::shared_ptr<Mapping> mapSharedMemory(int fd);

}  // namespace lb4
