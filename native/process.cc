#include "process.h"

#include <signal.h>
#include <sys/prctl.h>

#include "error.h"

namespace lb4 {

void endWithParent() { check(::prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl(PR_SET_PDEATHSIG)"); }

}  // namespace lb4
