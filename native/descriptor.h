// Descriptors that come back from JavaScript as numbers. A wrong number may hit anything the process has open, the event
// loop's own among them: each of these looks first, and throws SystemError(EINVAL) for what lb4 did not make.
#pragma once

namespace lb4 {

// Closes shared memory or a listening socket.
void closeOurs(int fd);

// Wakes whoever waits on this eventfd. Never blocks.
void wake(int fd);

// True for a socket with an option of SOL_SOCKET that has this value.
bool hasSocketOption(int fd, int option, int wanted);

// True for a socket that listen(2) was called on.
bool isListening(int fd);

}  // namespace lb4
