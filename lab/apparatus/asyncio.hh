#pragma once
#include "lab/apparatus/python.hh"

namespace schedlab::apparatus {

// A subject whose operation is a gather of so many coroutines that end at once, by Python's asyncio
// on one CPU, with its collector of cycles as it is. `metric` is in ns a coroutine.
std::unique_ptr<harness::Subject> make_asyncio_gather(const Python& python, std::int64_t count,
                                                      unsigned cpu, const affinity::CpuSet& usable,
                                                      std::size_t metric);

}  // namespace schedlab::apparatus
