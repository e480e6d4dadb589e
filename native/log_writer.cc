#include "log_writer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace lb4 {
namespace {

struct Line {
  std::string text;
  bool isNotice;
};

// No signal is for the writer's thread: those of a failed write (SIGXFSZ of `ulimit -f`, SIGPIPE, a background job's SIGTTOU)
// would end or stop the process. Blocked, they leave write(2) its errno.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

// The bytes written, less than all where it failed.
size_t writeAll(int fd, const char* bytes, size_t length) {
  size_t written = 0;
  while (written < length) {
    const ssize_t result = ::write(fd, bytes + written, length - written);
    if (result > 0) {
      written += static_cast<size_t>(result);
    } else if (result < 0 && errno == EAGAIN) {
      // Whoever else has this pipe set it O_NONBLOCK.
      pollfd writable = {fd, POLLOUT, 0};
      ::poll(&writable, 1, -1);
    } else if (result == 0 || errno != EINTR) {
      break;
    }
  }
  return written;
}

}  // namespace

struct LogWriter::State {
  explicit State(int from, size_t most) : fd(check(::fcntl(from, F_DUPFD_CLOEXEC, 0), "fcntl(F_DUPFD_CLOEXEC)")), capacity(most) {}

  const Fd fd;
  const size_t capacity;
  std::mutex mutex;
  std::condition_variable work;
  std::condition_variable idle;
  // All below under the mutex.
  std::deque<Line> lines;
  Counters counters{};
  bool isOver = false;

  void run();
  bool put(const Line& line);

  // The thread's own: what the last write failed with.
  int error = 0;
  // The last line was cut, by a disk that became full. The next begins a line of its own.
  bool isCut = false;
};

void LogWriter::State::run() {
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    work.wait(lock, [this] { return isOver || !lines.empty(); });
    if (lines.empty()) return;
    const Line line = std::move(lines.front());
    lines.pop_front();
    lock.unlock();
    const bool isWritten = put(line);
    lock.lock();
    counters.pending -= line.text.size();
    counters.error = isWritten ? 0 : error;
    if (line.isNotice) counters.notices += isWritten;
    else counters.lost += !isWritten;
    if (counters.pending == 0) idle.notify_all();
  }
}

bool LogWriter::State::put(const Line& line) {
  if (isCut && writeAll(fd.get(), "\n", 1) != 1) {
    error = errno;
    return false;
  }
  isCut = false;
  const size_t written = writeAll(fd.get(), line.text.data(), line.text.size());
  error = errno;
  isCut = written > 0 && written < line.text.size();
  return written == line.text.size();
}

LogWriter::LogWriter(int fd, size_t capacity) : state_(std::make_shared<State>(fd, capacity)) {
  const SignalsBlocked inherited;
  std::thread([state = state_] { state->run(); }).detach();
}

LogWriter::~LogWriter() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->isOver = true;
  state_->work.notify_one();
}

bool LogWriter::write(std::string line, bool isNotice) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  if (line.empty()) return true;
  if (line.size() > state_->capacity - state_->counters.pending) {
    state_->counters.lost += !isNotice;
    return false;
  }
  const size_t bytes = line.size();
  state_->lines.push_back({std::move(line), isNotice});
  state_->counters.pending += bytes;
  state_->work.notify_one();
  return true;
}

bool LogWriter::drain(int timeoutMs) const {
  std::unique_lock<std::mutex> lock(state_->mutex);
  return state_->idle.wait_for(lock, std::chrono::milliseconds(timeoutMs), [this] { return state_->counters.pending == 0; });
}

LogWriter::Counters LogWriter::counters() const {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->counters;
}

}  // namespace lb4
