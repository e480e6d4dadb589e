// One exception for every failed system call; addon.cc turns it into a JavaScript Error with code, errno and syscall.
#pragma once

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace lb4 {

class SystemError : public std::runtime_error {
 public:
  // `attempted` reads like the call: "setsockopt(PACKET_RX_RING)". Its part before the parenthesis is the syscall.
  SystemError(int number, const std::string& attempted)
      : std::runtime_error(attempted + ": " + std::strerror(number)),
        number_(number),
        syscall_(attempted.substr(0, attempted.find('('))) {}

  int number() const { return number_; }
  const std::string& syscall() const { return syscall_; }

 private:
  int number_;
  std::string syscall_;
};

// Passes a system call's result on, or throws what errno says.
inline int check(int result, const char* attempted) {
  if (result < 0) throw SystemError(errno, attempted);
  return result;
}

}  // namespace lb4
