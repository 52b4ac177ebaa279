#include "lab/apparatus/vector_registers.hh"

namespace schedlab::apparatus {

namespace {

#if defined(__x86_64__)

// Each is called only where its set exists. The functions are compiled for the baseline, because a
// compiler that knows of the wider registers cleans them (vzeroupper) before it returns; baseline
// code uses none of those that cannot be named as clobbered here.
void dirty_sse() noexcept {
  asm volatile("pcmpeqd %%xmm0, %%xmm0\n\t"
               "movdqa %%xmm0, %%xmm7\n\t"
               "movdqa %%xmm0, %%xmm15"
               :
               :
               : "xmm0", "xmm7", "xmm15");
}

void dirty_avx2() noexcept {
  asm volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0\n\t"
               "vmovdqa %%ymm0, %%ymm7\n\t"
               "vmovdqa %%ymm0, %%ymm15"
               :
               :
               : "xmm0", "xmm7", "xmm15");
}

void dirty_avx512() noexcept {
  asm volatile("vpternlogd $0xff, %%zmm0, %%zmm0, %%zmm0\n\t"
               "vmovdqa64 %%zmm0, %%zmm15\n\t"
               "vmovdqa64 %%zmm0, %%zmm31\n\t"
               "kxnorw %%k1, %%k1, %%k1"
               :
               :
               : "xmm0", "xmm15");
}

#elif defined(__aarch64__)

void dirty_neon() noexcept {
  asm volatile("movi v0.16b, #0xff\n\t"
               "movi v15.16b, #0xff\n\t"
               "movi v31.16b, #0xff"
               :
               :
               : "v0", "v15", "v31");
}

#else

void dirty_nothing() noexcept {}

#endif

struct VectorSet {
  DirtyRegisters dirty;
  const char* name;
};

VectorSet widest() noexcept {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f"))
    return {dirty_avx512, "AVX-512"};
  if (__builtin_cpu_supports("avx2"))
    return {dirty_avx2, "AVX2"};
  return {dirty_sse, "SSE2"};
#elif defined(__aarch64__)
  return {dirty_neon, "NEON"};
#else
  return {dirty_nothing, "none"};
#endif
}

}  // namespace

DirtyRegisters widest_dirty_registers() noexcept {
  return widest().dirty;
}
const char* widest_vector_set() noexcept {
  return widest().name;
}

}  // namespace schedlab::apparatus
