#include "lab/apparatus/asyncio.hh"

namespace schedlab::apparatus {

namespace {

constexpr std::string_view script = R"(
import asyncio, sys
count = int(sys.argv[1])
async def one(value):
    return value
async def gathers(operations):
    done = 0
    begin = time.perf_counter_ns()
    for _ in range(operations):
        done += sum(await asyncio.gather(*[one(1) for _ in range(count)])) == count
    return time.perf_counter_ns() - begin, done
def sample(operations):
    ns, done = asyncio.run(gathers(operations))
    return {'ns': ns, 'each': ns / (operations * count), 'done': done}
)";

}  // namespace

std::unique_ptr<harness::Subject> make_asyncio_gather(const Python& python, std::int64_t count,
                                                      unsigned cpu, const affinity::CpuSet& usable,
                                                      std::size_t metric) {
  return make_python({.python = python,
                      .script = script,
                      .arguments = {std::to_string(count)},
                      .cpus = {cpu},
                      .usable = usable,
                      .metric = metric,
                      .values = {{"each", metric}}});
}

}  // namespace schedlab::apparatus
