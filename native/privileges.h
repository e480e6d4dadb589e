// What this process may do of all that root may.
#pragma once

#include <cstdint>
#include <vector>

namespace lb4 {

// More than any kernel has: a set is a mask of 64 bits.
constexpr uint32_t MOST_CAPABILITIES = 64;
// Descriptors that stay open beside the standard streams.
constexpr uint32_t MOST_OPEN = 16;

// Starts this process's program anew (the same process, arguments, environment, standard streams and `open`) with no capabilities but those of the
// mask `keep` that it has, and with no new privileges. Each of its threads, and whatever it starts, is held to them: capset(2) and prctl(2)
// are of the calling thread alone, and a program has others before any of its own code runs. Returns where root is no user with powers of its
// own (SECBIT_NOROOT, capabilities(7)): there it would lose all. Throws where it cannot begin anew; then the calling thread may have less.
void confine(uint64_t keep, const std::vector<int>& open);

}  // namespace lb4
