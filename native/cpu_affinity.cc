#include "cpu_affinity.h"

#include <sched.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "error.h"

namespace lb4 {
namespace {

// cpu_set_t alone ends at 1,023 (CPU_SET(3)).
class CpuSet {
 public:
  explicit CpuSet(uint32_t cpus) : set_(CPU_ALLOC(cpus)), bytes_(CPU_ALLOC_SIZE(cpus)) {
    if (set_ == nullptr) throw std::bad_alloc();
    CPU_ZERO_S(bytes_, set_.get());
  }

  void add(uint32_t cpu) { CPU_SET_S(cpu, bytes_, set_.get()); }
  bool has(uint32_t cpu) const { return CPU_ISSET_S(cpu, bytes_, set_.get()); }

  // Pid 0 is the calling thread, not its process (sched_setaffinity(2)). False: errno says why.
  bool give() const { return ::sched_setaffinity(0, bytes_, set_.get()) == 0; }
  bool take() { return ::sched_getaffinity(0, bytes_, set_.get()) == 0; }

 private:
  struct Free {
    void operator()(cpu_set_t* set) const { CPU_FREE(set); }
  };
  std::unique_ptr<cpu_set_t, Free> set_;
  size_t bytes_;
};

std::string listed(const std::vector<uint32_t>& cpus) {
  std::string text;
  for (const uint32_t cpu : cpus) text += (text.empty() ? "" : ",") + std::to_string(cpu);
  return text;
}

}  // namespace

void pinThread(const std::vector<uint32_t>& cpus) {
  CpuSet set(cpus.empty() ? 1 : *std::max_element(cpus.begin(), cpus.end()) + 1);
  for (const uint32_t cpu : cpus) set.add(cpu);
  if (!set.give()) throw SystemError(errno, "sched_setaffinity(processors " + listed(cpus) + ")");
}

std::vector<uint32_t> threadCpus() {
  // EINVAL is the kernel's word for a set that is smaller than its own.
  CpuSet set(MOST_CPUS);
  if (!set.take()) throw SystemError(errno, "sched_getaffinity()");
  std::vector<uint32_t> cpus;
  for (uint32_t cpu = 0; cpu < MOST_CPUS; cpu++)
    if (set.has(cpu)) cpus.push_back(cpu);
  return cpus;
}

std::vector<uint32_t> usableCpus() {
  std::vector<uint32_t> cpus;
  std::optional<SystemError> error;
  // A thread that asks for all gets what the kernel grants. One of its own: whoever has asked once does not follow its cpuset as before.
  std::thread([&] {
    try {
      CpuSet all(MOST_CPUS);
      for (uint32_t cpu = 0; cpu < MOST_CPUS; cpu++) all.add(cpu);
      if (!all.give()) throw SystemError(errno, "sched_setaffinity(all processors)");
      cpus = threadCpus();
    } catch (const SystemError& failed) {
      error = failed;
    } catch (const std::bad_alloc&) {
      error = SystemError(ENOMEM, "malloc()");
    }
  }).join();
  if (error) throw *error;
  return cpus;
}

}  // namespace lb4
