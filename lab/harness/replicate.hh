#pragma once

namespace schedlab::harness {

// The whole life of a replicate process: reads its request, measures, writes its reply, and gives
// the exit status. What goes wrong is one line on standard error, which the parent keeps.
int replicate_main();

}  // namespace schedlab::harness
