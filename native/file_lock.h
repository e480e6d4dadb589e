// Locks of whole files that belong to an open file description and die with it: fcntl(2), "Open file description locks".
#pragma once

namespace lb4 {

// Takes the write lock on the file behind `fd`, which must be open for writing. False where another description has it.
bool tryLockFile(int fd);

// Gives it back. Closing `fd` does not while the file is mapped: a mapping holds the description, too.
void unlockFile(int fd);

// Whether a description other than this one holds a lock on the file. Takes none.
bool isFileLocked(int fd);

}  // namespace lb4
