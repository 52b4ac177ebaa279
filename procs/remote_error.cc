#include "procs/remote_error.hh"

#include <cxxabi.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>

namespace schedlab::procs {
namespace {

constexpr std::size_t longest_chain = 16;

std::string readable(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), std::free);
  return status == 0 ? name.get() : type.name();
}

// std::throw_with_nested makes a type of its own around the one that was meant.
std::string without_nesting(std::string name) {
  const std::string_view head = "std::_Nested_exception<";
  if (name.starts_with(head) && name.ends_with('>'))
    return name.substr(head.size(), name.size() - head.size() - 1);
  return name;
}

RemoteCause describe(const std::exception& error) {
  RemoteCause cause;
  const auto* located = dynamic_cast<const Located*>(&error);
  const std::type_info& type = located ? located->type() : typeid(error);
  cause.type = without_nesting(readable(type));
  cause.what = error.what();
  if (located)
    cause.origin =
        std::string(located->where().file_name()) + ":" + std::to_string(located->where().line());
  if (const auto* system = dynamic_cast<const std::system_error*>(&error))
    cause.error_value = system->code().value();
  return cause;
}

void describe_nested(const std::exception& error, std::vector<RemoteCause>& chain) {
  chain.push_back(describe(error));
  if (chain.size() == longest_chain)
    return;
  try {
    std::rethrow_if_nested(error);
  } catch (const std::exception& nested) {
    describe_nested(nested, chain);
  } catch (...) {
    chain.push_back({.type = "unknown", .what = "", .origin = ""});
  }
}

std::string text_of(const std::vector<RemoteCause>& chain, Stage stage, pid_t pid,
                    unsigned attempt) {
  std::string text;
  for (const auto& cause : chain) {
    text += (text.empty() ? "" : ", caused by ") + cause.type;
    if (!cause.what.empty())
      text += ": " + cause.what;
    if (!cause.origin.empty())
      text += " (thrown at " + cause.origin + ")";
  }
  return text + " [" + std::string(to_text(stage)) + ", worker " + std::to_string(pid) +
         ", attempt " + std::to_string(attempt) + "]";
}

// The text without an ending that its exception puts there itself.
std::string before(const std::string& text, const std::string& ending) {
  return text.ends_with(ending) ? text.substr(0, text.size() - ending.size()) : text;
}

class Registry {
public:
  Registry() {
    add<std::runtime_error>();
    add<std::logic_error>();
    add<std::invalid_argument>();
    add<std::domain_error>();
    add<std::length_error>();
    add<std::out_of_range>();
    add<std::range_error>();
    add<std::overflow_error>();
    add<std::underflow_error>();
    add(typeid(std::bad_alloc),
        [](const RemoteCause&) { std::throw_with_nested(std::bad_alloc()); });
    add(typeid(std::system_error), [](const RemoteCause& cause) {
      const std::error_code code(cause.error_value, std::system_category());
      std::throw_with_nested(std::system_error(code, before(cause.what, ": " + code.message())));
    });
  }
  void add(const std::type_info& type, detail::Rethrow rethrow) {
    const std::lock_guard lock(mutex_);
    known_[readable(type)] = std::move(rethrow);
  }
  detail::Rethrow find(const std::string& type) {
    const std::lock_guard lock(mutex_);
    const auto found = known_.find(type);
    return found == known_.end() ? detail::Rethrow() : found->second;
  }

private:
  template <typename E>
  void add() {
    add(typeid(E), [](const RemoteCause& cause) { std::throw_with_nested(E(cause.what)); });
  }

  std::mutex mutex_;
  std::map<std::string, detail::Rethrow> known_;
};

Registry& registry() {
  static Registry only;
  return only;
}

}  // namespace

void RemoteCause::encode(Encoder& encoder) const {
  procs::encode(encoder, type);
  procs::encode(encoder, what);
  procs::encode(encoder, origin);
  procs::encode(encoder, error_value);
}

RemoteCause RemoteCause::decode(Decoder& decoder) {
  RemoteCause cause;
  cause.type = procs::decode<std::string>(decoder);
  cause.what = procs::decode<std::string>(decoder);
  cause.origin = procs::decode<std::string>(decoder);
  cause.error_value = procs::decode<std::int32_t>(decoder);
  return cause;
}

std::string_view to_text(Stage stage) noexcept {
  switch (stage) {
  case Stage::decode_arguments:
    return "while its arguments were decoded";
  case Stage::encode_result:
    return "while its result was encoded";
  case Stage::run:
    break;
  }
  return "while it ran";
}

RemoteError::RemoteError(std::vector<RemoteCause> chain, Stage stage, pid_t pid, unsigned attempt)
    : std::runtime_error(text_of(chain, stage, pid, attempt)), chain_(std::move(chain)),
      stage_(stage), pid_(pid), attempt_(attempt) {}

std::vector<RemoteCause> describe_current_exception() {
  std::vector<RemoteCause> chain;
  try {
    throw;
  } catch (const std::exception& error) {
    describe_nested(error, chain);
  } catch (...) {
    const std::type_info* type = abi::__cxa_current_exception_type();
    const std::string name = type ? readable(*type) : "unknown";
    chain.push_back({.type = name, .what = "", .origin = ""});
  }
  return chain;
}

void detail::register_remote(const std::type_info& type, Rethrow rethrow) {
  registry().add(type, std::move(rethrow));
}

void throw_remote(const RemoteError& error) {
  if (const auto rethrow = registry().find(error.chain().front().type))
    try {
      throw error;
    } catch (const RemoteError&) {
      rethrow(error.chain().front());
    }
  throw error;
}

}  // namespace schedlab::procs
