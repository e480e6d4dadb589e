// Lines of the log on their way to a descriptor that may be full, gone, or read by nobody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "fd.h"

namespace lb4 {

// A thread of its own writes, with write(2) as the descriptor is: a pipe that nobody reads blocks this thread alone, and no
// O_NONBLOCK is set, which a pipe or terminal would have in common with the shell and its other programs. What waits is
// bounded. A line that cannot be written is lost and counted, the next one is tried afresh. The thread is never joined: the
// process may end while it is stuck.
class LogWriter {
 public:
  struct Counters {
    // Bytes accepted and neither written nor lost.
    size_t pending;
    // Lines not accepted, or not written whole; without notices.
    uint64_t lost;
    // Notices written.
    uint64_t notices;
    // The errno of the last line, 0: it was written.
    int error;
  };

  // At most `capacity` bytes wait. Duplicates `fd`: EBADF, EMFILE. std::system_error: no thread.
  LogWriter(int fd, size_t capacity);
  ~LogWriter();

  // Hands over one line, its end included; never waits. False: there is no room. A notice tells of lost lines, and is no
  // loss itself.
  bool write(std::string line, bool isNotice);

  // Waits until all is written or lost, or for so long; true: all is.
  bool drain(int timeoutMs) const;

  Counters counters() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace lb4
