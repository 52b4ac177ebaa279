#include "lab/base/child.hh"
#include "lab/base/error.hh"
#include "procs/sealed_memory.hh"

#include <boost/test/unit_test.hpp>
#include <fcntl.h>
#include <sys/mman.h>

namespace {

using namespace schedlab;
using procs::SealedMemory;

BOOST_AUTO_TEST_CASE(what_one_process_writes_another_reads) {
  const auto memory = SealedMemory::make(4096, "shared");
  auto* const word = memory.as<int>();
  Child child = Child::fork([word] {
    *word = 7;
    return 0;
  });
  BOOST_TEST(child.wait().success());
  BOOST_TEST(*word == 7);
}

BOOST_AUTO_TEST_CASE(its_size_holds_still_whoever_has_the_descriptor) {
  const auto memory = SealedMemory::make(8192, "fixed");
  BOOST_TEST(memory.size() == 8192);
  BOOST_TEST(::ftruncate(memory.fd().get(), 4096) == -1);
  BOOST_TEST(::ftruncate(memory.fd().get(), 16384) == -1);
  BOOST_TEST(::fcntl(memory.fd().get(), F_ADD_SEALS, F_SEAL_WRITE) == -1);
}

BOOST_AUTO_TEST_CASE(memory_that_could_shrink_is_not_attached) {
  Fd open(::memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  BOOST_REQUIRE(::ftruncate(open.get(), 4096) == 0);
  BOOST_CHECK_THROW(SealedMemory::attach(std::move(open)), Unsupported);
}

BOOST_AUTO_TEST_CASE(both_mappings_of_one_descriptor_are_the_same_memory) {
  const auto first = SealedMemory::make(4096, "twice");
  const auto second = SealedMemory::attach(Fd(::fcntl(first.fd().get(), F_DUPFD_CLOEXEC, 0)));
  *first.as<int>() = 3;
  BOOST_TEST(second.data() != first.data());
  BOOST_TEST(*second.as<int>() == 3);
}

BOOST_AUTO_TEST_CASE(more_memory_than_there_is_is_an_error_and_no_signal) {
  BOOST_CHECK_THROW(SealedMemory::make(std::size_t{1} << 50, "too much"), std::system_error);
}

}  // namespace
