#include "lab/apparatus/vector_registers.hh"

#include <boost/test/unit_test.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>

using namespace schedlab::apparatus;

BOOST_AUTO_TEST_CASE(the_widest_set_has_a_name_and_a_function_that_returns) {
  BOOST_TEST(widest_vector_set() != std::string());
  for (int i = 0; i < 1000; ++i)
    widest_dirty_registers()();
}

#if defined(__x86_64__)

#include <cpuid.h>

namespace {

constexpr std::size_t registers = 16;
constexpr std::size_t low_bytes = 16;
using Xmm = std::array<std::array<std::uint8_t, low_bytes>, registers>;

// The low halves of the registers after a call that finds `before` in them. The stack pointer is
// moved below the red zone and aligned as a call wants it.
__attribute__((noinline)) Xmm called_with(const Xmm& before, DirtyRegisters function) {
  Xmm after;
  asm volatile("movdqu 0(%[in]), %%xmm0\n\t"
               "movdqu 16(%[in]), %%xmm1\n\t"
               "movdqu 32(%[in]), %%xmm2\n\t"
               "movdqu 48(%[in]), %%xmm3\n\t"
               "movdqu 64(%[in]), %%xmm4\n\t"
               "movdqu 80(%[in]), %%xmm5\n\t"
               "movdqu 96(%[in]), %%xmm6\n\t"
               "movdqu 112(%[in]), %%xmm7\n\t"
               "movdqu 128(%[in]), %%xmm8\n\t"
               "movdqu 144(%[in]), %%xmm9\n\t"
               "movdqu 160(%[in]), %%xmm10\n\t"
               "movdqu 176(%[in]), %%xmm11\n\t"
               "movdqu 192(%[in]), %%xmm12\n\t"
               "movdqu 208(%[in]), %%xmm13\n\t"
               "movdqu 224(%[in]), %%xmm14\n\t"
               "movdqu 240(%[in]), %%xmm15\n\t"
               "mov %%rsp, %%r13\n\t"
               "sub $256, %%rsp\n\t"
               "and $-64, %%rsp\n\t"
               "call *%[function]\n\t"
               "mov %%r13, %%rsp\n\t"
               "movdqu %%xmm0, 0(%[out])\n\t"
               "movdqu %%xmm1, 16(%[out])\n\t"
               "movdqu %%xmm2, 32(%[out])\n\t"
               "movdqu %%xmm3, 48(%[out])\n\t"
               "movdqu %%xmm4, 64(%[out])\n\t"
               "movdqu %%xmm5, 80(%[out])\n\t"
               "movdqu %%xmm6, 96(%[out])\n\t"
               "movdqu %%xmm7, 112(%[out])\n\t"
               "movdqu %%xmm8, 128(%[out])\n\t"
               "movdqu %%xmm9, 144(%[out])\n\t"
               "movdqu %%xmm10, 160(%[out])\n\t"
               "movdqu %%xmm11, 176(%[out])\n\t"
               "movdqu %%xmm12, 192(%[out])\n\t"
               "movdqu %%xmm13, 208(%[out])\n\t"
               "movdqu %%xmm14, 224(%[out])\n\t"
               "movdqu %%xmm15, 240(%[out])\n\t"
               :
               : [in] "r"(&before), [out] "r"(&after), [function] "r"(function)
               : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r13", "cc", "memory",
                 "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                 "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  return after;
}

std::set<std::size_t> changed_by(DirtyRegisters function) {
  Xmm before;
  for (std::size_t i = 0; i < registers; ++i)
    before[i].fill(static_cast<std::uint8_t>(i + 1));
  const Xmm after = called_with(before, function);
  std::set<std::size_t> changed;
  for (std::size_t i = 0; i < registers; ++i)
    if (after[i] != before[i])
      changed.insert(i);
  return changed;
}

void nothing() noexcept {}

// Which parts of the state are not in their initial form, as XSAVE sees it; nothing where the CPU
// does not tell.
bool tells_state_in_use() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid_count(0xd, 1, &eax, &ebx, &ecx, &edx) && (eax & 4);
}

std::uint32_t state_in_use() {
  std::uint32_t eax, edx;
  asm volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(1));
  return eax;
}

enum State : std::uint32_t { avx = 1 << 2, zmm_high = 1 << 6 };

// What a call leaves in a mask register and in a register that only AVX-512 has, from zero.
struct Wide {
  std::uint32_t mask;
  std::array<std::uint8_t, 64> upper;
};

__attribute__((noinline, target("avx512f"))) Wide wide_after(DirtyRegisters function) {
  Wide wide;
  asm volatile("kxorw %%k1, %%k1, %%k1\n\t"
               "vpxorq %%zmm31, %%zmm31, %%zmm31\n\t"
               "mov %%rsp, %%r13\n\t"
               "sub $256, %%rsp\n\t"
               "and $-64, %%rsp\n\t"
               "call *%[function]\n\t"
               "mov %%r13, %%rsp\n\t"
               "kmovw %%k1, %%eax\n\t"
               "mov %%eax, (%[mask])\n\t"
               "vmovdqu64 %%zmm31, (%[upper])\n\t"
               :
               : [mask] "r"(&wide.mask), [upper] "r"(&wide.upper), [function] "r"(function)
               : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r13", "cc", "memory",
                 "k1", "xmm0", "xmm15", "xmm31");
  return wide;
}

__attribute__((target("avx"))) void clear_upper_halves() {
  asm volatile("vzeroupper");
}

}  // namespace

BOOST_AUTO_TEST_CASE(only_the_registers_that_it_declares_are_written) {
  const auto changed = changed_by(widest_dirty_registers());
  BOOST_TEST(changed.contains(0));
  const std::set<std::size_t> declared = {0, 7, 15};
  for (const auto number : changed)
    BOOST_TEST(declared.contains(number), "xmm" << number);
  // The control: the view is not blind, and a call alone writes nothing.
  BOOST_TEST(changed_by(nothing).empty());
}

BOOST_AUTO_TEST_CASE(the_upper_halves_of_the_registers_are_in_use_afterwards) {
  const std::string set = widest_vector_set();
  if (!tells_state_in_use() || set == "SSE2") {
    BOOST_TEST_MESSAGE("this CPU does not tell which state is in use");
    return;
  }
  const std::uint32_t parts = set == "AVX-512" ? avx | zmm_high : avx;
  clear_upper_halves();
  widest_dirty_registers()();
  BOOST_TEST((state_in_use() & parts) == parts);
  clear_upper_halves();
  // The control: cleared, they are in their initial form.
  BOOST_TEST((state_in_use() & parts) == 0u);
}

BOOST_AUTO_TEST_CASE(a_mask_and_an_upper_register_are_written_where_there_are_any) {
  if (widest_vector_set() != std::string("AVX-512")) {
    BOOST_TEST_MESSAGE("this CPU has no AVX-512");
    return;
  }
  const Wide written = wide_after(widest_dirty_registers());
  BOOST_TEST(written.mask == 0xffffu);
  BOOST_TEST(written.upper.back() == 0xffu);
  const Wide untouched = wide_after(nothing);
  BOOST_TEST(untouched.mask == 0u);
  BOOST_TEST(untouched.upper.back() == 0u);
}

#endif
