#pragma once
// The first line of main in a program that starts processes by executing itself: what
// `if __name__ == "__main__"` is to Python's multiprocessing, but that it cannot be forgotten
// unnoticed. A process that has not passed here starts no such child (Unsupported), so that a
// program without this line fails at its first one instead of starting itself for ever.

namespace schedlab::procs {

// Returns at once in a process that the user started. In one that procs started, plays what it was
// started for and never returns. Called before threads are started.
void enter(int argc, char** argv);

// Has this process passed enter()?
bool entered() noexcept;

}  // namespace schedlab::procs
