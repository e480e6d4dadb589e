// What the kernel does about a process.
#pragma once

namespace lb4 {

// Has the kernel kill this process when the thread that started it ends (PR_SET_PDEATHSIG, prctl(2)): at once, also where this one hangs.
void endWithParent();

}  // namespace lb4
