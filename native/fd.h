// Owners of a descriptor and of a mapping: whatever throws, nothing leaks.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "error.h"

namespace lb4 {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }

  int get() const { return fd_; }
  // Hands the descriptor to someone else.
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// A shared, writable mapping of a descriptor from its start, in place of what is mapped at `place`, where that is given. It outlives the
// descriptor (mmap(2)).
class Mapping {
 public:
  Mapping(const Fd& fd, size_t bytes, const char* attempted) : Mapping(fd.get(), bytes, attempted) {}
  Mapping(int fd, size_t bytes, const char* attempted, void* place = nullptr)
      : data_(::mmap(place, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (place == nullptr ? 0 : MAP_FIXED), fd, 0)), bytes_(bytes) {
    if (data_ == MAP_FAILED) throw SystemError(errno, attempted);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { unmap(); }

  // Early, when nobody can reach the bytes any more. Twice is harmless.
  void unmap() {
    if (bytes_ != 0) ::munmap(data_, std::exchange(bytes_, 0));
  }

  uint8_t* data() const { return static_cast<uint8_t*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  void* data_;
  size_t bytes_;
};

}  // namespace lb4
