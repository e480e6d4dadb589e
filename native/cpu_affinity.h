// Which processors a thread may run on.
#pragma once

#include <cstdint>
#include <vector>

namespace lb4 {

// Numbers of processors are below: Linux is built for 8,192 at most (CONFIG_NR_CPUS).
constexpr uint32_t MOST_CPUS = 8192;

// Pins the calling thread, which in Node is one of the kernel's for each worker, to these processors, at least one. Those that the process
// may not use, or that are not there, the kernel leaves out; EINVAL where it has none left.
void pinThread(const std::vector<uint32_t>& cpus);

// The processors that the calling thread may run on now, ascending.
std::vector<uint32_t> threadCpus();

// The processors that some thread of this process could be pinned to, ascending: those of its cpuset that are there, whatever this thread
// is pinned to (taskset, isolcpus).
std::vector<uint32_t> usableCpus();

}  // namespace lb4
