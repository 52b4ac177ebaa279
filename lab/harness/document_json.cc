#include "lab/harness/document_json.hh"

#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/harness/document_keys.hh"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace schedlab::harness {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t file_limit = 256u << 20;
constexpr std::size_t depth_limit = 64;
constexpr std::size_t key_limit = 4096;
constexpr double exact_limit = 9007199254740992.0;  // 2^53

// Turns a document into a tree.
class Writer {
public:
  template <typename T>
  static Json write(const T& value) {
    if constexpr (std::is_enum_v<T>) {
      return to_text(value);
    } else if constexpr (std::is_same_v<T, double>) {
      return number(value);
    } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
      return value;
    } else {
      Writer writer;
      describe(writer, value);
      return std::move(writer.object_);
    }
  }

  template <typename T>
  void required(const char* key, const T& value) {
    object_[key] = write(value);
  }
  template <typename T>
  void optional(const char* key, const T& value) {
    required(key, value);
  }
  void constant(const char* key, const char* value) { object_[key] = value; }
  template <typename A, typename B>
  void one_of(const char* first, const std::optional<A>& a, const char* second, const B& b) {
    a ? required(first, *a) : required(second, b);
  }
  void table(const char* key, const std::vector<std::vector<double>>& rows) { required(key, rows); }

private:
  // A whole number is written without a point, as a reader expects of a count.
  static Json number(double value) {
    if (std::isfinite(value) && value == std::trunc(value) && std::abs(value) < exact_limit)
      return static_cast<std::int64_t>(value);
    return value;
  }
  static Json write(const JsonValue& value) { return value.get(); }
  static Json write(const Value& value) {
    return value.number() ? number(*value.number()) : Json(*value.text());
  }
  static Json write(const Fields& fields) {
    Json object = Json::object();
    for (const auto& [name, value] : fields)
      object[name] = write(value);
    return object;
  }
  static Json write(const std::optional<Interval>& interval) {
    if (!interval || !std::isfinite(interval->low) || !std::isfinite(interval->high))
      return nullptr;
    return write(*interval);
  }
  template <typename T>
  static Json write(const std::optional<T>& value) {
    return value ? write(*value) : Json(nullptr);
  }
  template <typename A, typename B>
  static Json write(const std::pair<A, B>& pair) {
    return Json::array({write(pair.first), write(pair.second)});
  }
  template <typename T>
  static Json write(const std::vector<T>& values) {
    Json array = Json::array();
    for (const T& value : values)
      array.push_back(write(value));
    return array;
  }
  template <typename T>
  static Json write(const std::map<std::string, T>& values) {
    Json object = Json::object();
    for (const auto& [name, value] : values)
      object[name] = write(value);
    return object;
  }

  Json object_ = Json::object();
};

std::string compact(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Samples, bins and matrix rows stay on a line; whatever holds an object is spread out.
bool fits_on_a_line(const Json& value) {
  return !value.is_object() && std::all_of(value.begin(), value.end(), [](const Json& element) {
    return !element.is_structured() || (element.is_array() && fits_on_a_line(element));
  });
}

void print(std::string& out, const Json& value, std::size_t indent) {
  if (value.empty() || !value.is_structured() || fits_on_a_line(value)) {
    out += compact(value);
    return;
  }
  const std::string margin(indent + 2, ' ');
  const char* before = value.is_object() ? "{\n" : "[\n";
  for (auto element = value.begin(); element != value.end(); ++element) {
    out.append(before).append(margin);
    if (value.is_object())
      out.append(compact(element.key())).append(": ");
    print(out, *element, indent + 2);
    before = ",\n";
  }
  out.append("\n").append(indent, ' ').append(value.is_object() ? "}" : "]");
}

// A place in the document, from the inside out.
struct Place {
  const Place* outer;
  std::string key;

  [[nodiscard]] std::string pointer() const {
    return outer ? outer->pointer() + "/" + key : std::string();
  }
};

// At most 120 printable characters of what a file holds, for an error of one line.
std::string shown(std::string_view text) {
  std::string result(text.substr(0, 120));
  std::replace_if(
      result.begin(), result.end(), [](unsigned char c) { return c < ' ' || c > '~'; }, '?');
  return result;
}

// Fills one part of a document from its object.
class Reader {
public:
  Reader(const Json& object, const Place& place, const std::string& path)
      : object_(object), place_(place), path_(path) {
    if (!object.is_object())
      fail("expected an object");
  }

  template <typename T>
  void required(const char* key, T& value) {
    const auto found = object_.find(key);
    if (found == object_.end())
      throw BadInput(path_ + ": " + shown(Place{&place_, key}.pointer()) + ": is missing");
    read(*found, value, {&place_, key});
  }
  template <typename T>
  void optional(const char* key, T& value) {
    if (object_.contains(key))
      required(key, value);
  }
  void constant(const char* key, const char* expected) {
    std::string seen;
    required(key, seen);
    if (seen != expected)
      fail("expected " + std::string(key) + " " + expected);
  }
  template <typename A, typename B>
  void one_of(const char* first, std::optional<A>& a, const char* second, B& b) {
    if (object_.contains(first))
      required(first, a.emplace());
    else
      required(second, b);
  }
  // NaN is null here and only here: a matrix has places without a value.
  void table(const char* key, std::vector<std::vector<double>>& rows) {
    std::vector<std::vector<std::optional<double>>> cells;
    required(key, cells);
    for (const auto& row : cells) {
      auto& filled = rows.emplace_back();
      for (const auto& cell : row)
        filled.push_back(cell.value_or(std::numeric_limits<double>::quiet_NaN()));
    }
  }

private:
  [[noreturn]] void fail(const std::string& problem) const { fail(place_, problem); }
  [[noreturn]] void fail(const Place& place, const std::string& problem) const {
    const std::string pointer = place.pointer();
    throw BadInput(path_ + ": " + (pointer.empty() ? "/" : shown(pointer)) + ": " + problem);
  }

  template <typename T>
  void read(const Json& json, T& value, const Place& place) const {
    if constexpr (std::is_enum_v<T>) {
      read_name(json, value, place);
    } else if constexpr (std::is_integral_v<T>) {
      read_whole(json, value, place);
    } else {
      Reader part(json, place, path_);
      describe(part, value);
    }
  }

  void read(const Json& json, bool& value, const Place& place) const {
    if (!json.is_boolean())
      fail(place, "expected true or false");
    value = json.get<bool>();
  }
  void read(const Json& json, std::string& value, const Place& place) const {
    if (!json.is_string())
      fail(place, "expected a text");
    value = json.get<std::string>();
  }
  void read(const Json& json, double& value, const Place& place) const {
    if (!json.is_number())
      fail(place, "expected a number");
    value = json.get<double>();
  }
  void read(const Json& json, Value& value, const Place& place) const {
    if (json.is_string())
      value = json.get<std::string>();
    else if (json.is_number())
      value = json.get<double>();
    else if (json.is_boolean())
      value = json.get<bool>();
    else if (json.is_null())
      value = std::numeric_limits<double>::quiet_NaN();
    else
      fail(place, "expected a number or a text");
  }
  void read(const Json& json, JsonValue& value, const Place& place) const {
    if (!json.is_object())
      fail(place, "expected an object");
    value = JsonValue(json);
  }

  // Any whole number that T holds, also one that another program wrote as 3.0.
  template <typename T>
  void read_whole(const Json& json, T& value, const Place& place) const {
    constexpr auto most = std::numeric_limits<T>::max();
    if (json.is_number_unsigned() && json.get<std::uint64_t>() <= std::uint64_t{most}) {
      value = json.get<T>();
      return;
    }
    const double number = json.is_number_float() ? json.get<double>() : -1;
    if (number < 0 || number != std::trunc(number) || number >= exact_limit ||
        static_cast<std::uint64_t>(number) > std::uint64_t{most})
      fail(place, "expected a whole number from 0 to " + std::to_string(most));
    value = static_cast<T>(number);
  }

  template <typename E>
  void read_name(const Json& json, E& value, const Place& place) const {
    const auto names = names_of(E{});
    const auto found = json.is_string()
                           ? std::find(names.begin(), names.end(), json.get<std::string>())
                           : names.end();
    if (found == names.end()) {
      std::string all;
      for (const auto name : names)
        all.append(all.empty() ? "" : ", ").append(name);
      fail(place, "expected one of " + all);
    }
    value = static_cast<E>(found - names.begin());
  }

  template <typename T>
  void read(const Json& json, std::optional<T>& value, const Place& place) const {
    if (json.is_null())
      value.reset();
    else
      read(json, value.emplace(), place);
  }
  template <typename T>
  void read(const Json& json, std::vector<T>& values, const Place& place) const {
    if (!json.is_array())
      fail(place, "expected an array");
    values.reserve(json.size());
    for (const Json& element : json) {
      const Place here{&place, std::to_string(values.size())};
      read(element, values.emplace_back(), here);
    }
  }
  template <typename T>
  void read(const Json& json, std::map<std::string, T>& values, const Place& place) const {
    if (!json.is_object())
      fail(place, "expected an object");
    for (const auto& [name, element] : json.items())
      read(element, values[name], {&place, name});
  }
  void read(const Json& json, Fields& fields, const Place& place) const {
    if (!json.is_object())
      fail(place, "expected an object");
    for (const auto& [name, element] : json.items())
      read(element, fields.emplace_back(name, Value()).second, {&place, name});
  }
  void read(const Json& json, std::vector<std::pair<double, std::uint64_t>>& bins,
            const Place& place) const {
    if (!json.is_array())
      fail(place, "expected an array");
    for (const Json& element : json) {
      const Place here{&place, std::to_string(bins.size())};
      if (!element.is_array() || element.size() != 2)
        fail(here, "expected [value, count]");
      auto& bin = bins.emplace_back();
      read(element[0], bin.first, {&here, "0"});
      read(element[1], bin.second, {&here, "1"});
      if (bins.size() > 1 && bin.first <= bins[bins.size() - 2].first)
        fail(here, "expected ascending values");
    }
  }

  const Json& object_;
  const Place& place_;
  const std::string& path_;
};

[[noreturn]] void fail_at(std::string_view text, std::size_t offset, const std::string& path,
                          const std::string& problem) {
  const auto before = text.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  throw BadInput(path + ":" + std::to_string(line) + ":" +
                 std::to_string(before.size() - line_start + 1) + ": " + problem);
}

// A tree is walked by recursion, and the keys of an object are looked up one by one, so a file may
// choose neither its depth nor the size of an object.
void check_shape(std::string_view text, const std::string& path) {
  std::size_t depth = 0;
  std::array<std::size_t, depth_limit + 1> keys{};
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      i += c == '\\';
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > depth_limit)
        fail_at(text, i, path, "nested deeper than " + std::to_string(depth_limit) + " levels");
      keys[depth] = 0;
    } else if (c == ']' || c == '}') {
      depth -= depth > 0;
    } else if (c == ':' && ++keys[depth] > key_limit) {
      fail_at(text, i, path, "more than " + std::to_string(key_limit) + " keys in an object");
    }
  }
}

Json parse_tree(std::string_view text, const std::string& path) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos)
    throw BadInput(path + ": is empty");
  if (text[first] == '\0')
    fail_at(text, first, path, "holds zero bytes, not JSON");
  check_shape(text, path);
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    if (error.byte > text.size())
      fail_at(text, text.size(), path, "ends in the middle: the file is truncated");
    fail_at(text, error.byte == 0 ? 0 : error.byte - 1, path, "not JSON");
  } catch (const Json::exception&) {
    throw BadInput(path + ": holds a number that is out of range");
  }
}

void check_schema(const Json& tree, const std::string& path) {
  const auto found = tree.is_object() ? tree.find("schema") : tree.end();
  const std::string ours(schema_name);
  if (found == tree.end() || !found->is_string())
    throw BadInput(path + ": names no schema; this program reads " + ours);
  const auto schema = found->get<std::string>();
  if (schema != ours)
    throw BadInput(path + ": schema is '" + shown(schema) + "', this program reads " + ours);
}

}  // namespace

std::string to_json(const Document& document) {
  Json tree = Json::object();
  tree["schema"] = schema_name;
  tree.update(Writer::write(document));
  std::string text;
  print(text, tree, 0);
  text += '\n';
  return text;
}

std::string env_text(const Document& document, const char* pointer) {
  const Json& env = document.env.get();
  const Json::json_pointer at(pointer);
  if (!env.contains(at))
    return "";
  const Json& value = env.at(at);
  return value.is_string() ? value.get<std::string>() : value.is_null() ? "" : value.dump();
}

Document parse_document(std::string_view text, const std::string& path) {
  const Json tree = parse_tree(text, path);
  check_schema(tree, path);
  Document document;
  const Place root{nullptr, ""};
  Reader reader(tree, root, path);
  describe(reader, document);
  return document;
}

Document read_document(const std::string& path) {
  return parse_document(read_input(path, file_limit), path);
}

}  // namespace schedlab::harness
