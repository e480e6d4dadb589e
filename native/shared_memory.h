#pragma once

#include <memory>
#include <string>

#include "fd.h"

namespace lb4 {

struct SharedMemory {
  Fd fd;
  std::shared_ptr<Mapping> mapping;
};

// What an ArrayBuffer may span in every Node that runs lb4: in version 20 more is a fatal error.
constexpr double MAX_MEMORY = 4294967296.0;
// memfd_create(2): a file's name is at most NAME_MAX, of which "memfd:" is a part.
constexpr size_t MAX_MEMORY_NAME = 249;

// ENOMEM: more than this host has. EFBIG: more than `ulimit -f` (RLIMIT_FSIZE) allows.
// memfd_create(2): zeroed, sealed against resizing, so that no one who holds the descriptor can make our loads SIGBUS.
SharedMemory createSharedMemory(const std::string& name, size_t bytes);

// Makes an empty file `bytes` long, zeroed and all of it there, so that no later store finds the file system full (SIGBUS). ENOSPC where
// it is. A file on a tmpfs, of this user's alone, outlives the process.
void allocateFile(int fd, size_t bytes);

// Maps either again. Refuses (EINVAL) what is neither sealed nor allocated like the above, and what is larger than MAX_MEMORY (EFBIG).
std::shared_ptr<Mapping> mapSharedMemory(int fd);

}  // namespace lb4
