#include "procs/bytes.hh"

#include <utility>

namespace schedlab::procs {
namespace {

thread_local pool::BytesHost* host_here = nullptr;

pool::BytesHost& host() {
  if (!host_here)
    throw std::logic_error("procs::Bytes outside a task of a process pool: take them from "
                           "ProcessPool::bytes()");
  return *host_here;
}

}  // namespace

Bytes Bytes::make(std::size_t size) {
  return host().make(size);
}

void Bytes::encode(Encoder& encoder) const {
  procs::encode(encoder, size() == 0 ? std::uint64_t{0} : host().send(*this));
  procs::encode(encoder, static_cast<std::uint64_t>(size()));
}

Bytes Bytes::decode(Decoder& decoder) {
  const auto at = procs::decode<std::uint64_t>(decoder);
  const auto size = procs::decode<std::uint64_t>(decoder);
  return size == 0 ? Bytes() : host().receive(at, size);
}

pool::HostScope::HostScope(BytesHost& host) noexcept : before_(std::exchange(host_here, &host)) {}

pool::HostScope::~HostScope() {
  host_here = before_;
}

}  // namespace schedlab::procs
