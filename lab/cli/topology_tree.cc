#include "lab/cli/topology_tree.hh"

#include "affinity/tree.hh"
#include "lab/base/text.hh"

#include <algorithm>
#include <array>
#include <fmt/format.h>

namespace schedlab::cli {

using affinity::Object;
using affinity::Topology;

namespace {

constexpr std::size_t most_lines = 80;

// Objects that one line stands for: alike in all but their numbers.
using Group = std::vector<const Object*>;

// How readily siblings are put together, so that the tree stays readable.
enum class Collapse : std::uint8_t { none, inside_caches, everything };

// What may not be done with a CPU, as a mark behind its number.
std::string mark(const Topology& topology, unsigned os) {
  if (!topology.allowed().contains(os))
    return "[cgroup]";
  return topology.affinity().contains(os) ? "" : "[affinity]";
}

bool is_alike(const Object& a, const Object& b, const Topology& topology) {
  const auto all_alike = [&](const std::vector<Object>& x, const std::vector<Object>& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end(),
                      [&](const auto& p, const auto& q) { return is_alike(p, q, topology); });
  };
  if (a.type != b.type || a.size != b.size)
    return false;
  if (a.type == "PU" &&
      mark(topology, static_cast<unsigned>(a.os)) != mark(topology, static_cast<unsigned>(b.os)))
    return false;
  return all_alike(a.memory, b.memory) && all_alike(a.children, b.children);
}

// Large objects keep a line of their own, so that one sees which CPUs share them.
bool is_large(const Object& object) {
  static constexpr std::array<std::string_view, 5> large = {"Machine", "Package", "Die", "L3",
                                                            "NUMANode"};
  return std::find(large.begin(), large.end(), object.type) != large.end() ||
         object.type.starts_with("Group") || !object.memory.empty() ||
         std::any_of(object.children.begin(), object.children.end(), is_large);
}

bool joins(const Object& a, const Object& b, Collapse collapse, const Topology& topology) {
  if (collapse == Collapse::none || (collapse == Collapse::inside_caches && is_large(a)))
    return false;
  return is_alike(a, b, topology);
}

// "0-3,8": runs of numbers in the order they come.
std::string ranges(const std::vector<int>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1)
      ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ",", numbers[i]);
    if (last > i)
      text += fmt::format("-{}", numbers[last]);
    i = last + 1;
  }
  return text;
}

bool is_cache(const Object& object) {
  return object.type.starts_with("L");
}

// "L#3(P#7)", "L#0-3(P#0,2,4,6)"; without the kernel's numbers where a long group mixes them.
std::string numbers_of(const Group& group) {
  constexpr std::size_t longest = 24;
  std::vector<int> logical, os;
  for (const Object* object : group) {
    logical.push_back(static_cast<int>(object->logical));
    os.push_back(object->os);
  }
  const std::string kernel = ranges(os);
  // Numbers of caches mean nothing to the kernel's interfaces.
  const bool shown = os.front() >= 0 && !is_cache(*group.front()) &&
                     (group.size() == 1 || kernel.size() <= longest);
  return "L#" + ranges(logical) + (shown ? "(P#" + kernel + ")" : "");
}

// "Core L#0-7(P#0-7)", "L3 L#0 32 MiB", "L1d 32 KiB".
std::string describe(const Group& group) {
  const Object& first = *group.front();
  std::string text = first.type;
  if (!text.starts_with("L1"))  // there is one to a core: its number says no more than the core's
    text += " " + numbers_of(group);
  return first.size > 0 ? text + " " + size_text(first.size) : text;
}

class Tree {
public:
  Tree(const Topology& topology, unsigned width, Collapse collapse)
      : topology_(topology), width_(width), collapse_(collapse) {}

  std::vector<std::string> draw(const Object& root) {
    draw_below({&root}, 0);
    return std::move(lines_);
  }

private:
  // Memory first, then the rest; siblings that are alike in one group.
  void draw_below(const Group& parents, unsigned depth) {
    for (const auto& group : groups(parents, &Object::memory))
      draw_group(group, depth);
    for (const auto& group : groups(parents, &Object::children))
      draw_group(group, depth);
  }

  // The children of all parents. Parents of one group are alike, so their children group alike.
  [[nodiscard]] std::vector<Group> groups(const Group& parents,
                                          std::vector<Object> Object::*list) const {
    std::vector<Group> result;
    std::vector<std::size_t> group_of;  // by position below one parent
    const auto& model = parents.front()->*list;
    for (std::size_t i = 0; i < model.size(); ++i) {
      if (i == 0 || !joins(model[i - 1], model[i], collapse_, topology_))
        result.emplace_back();
      group_of.push_back(result.size() - 1);
    }
    for (const Object* parent : parents)
      for (std::size_t i = 0; i < model.size(); ++i)
        result[group_of[i]].push_back(&(parent->*list)[i]);
    return result;
  }

  // One line for a group and, behind a +, for the only children of its members.
  void draw_group(Group group, unsigned depth) {
    std::string text = describe(group);
    const bool is_pu = group.front()->type == "PU";
    bool is_chain = false;
    while (has_only_child(*group.front())) {
      for (const Object*& object : group)
        object = &object->children[0];
      text += " + " + describe(group);
      is_chain = true;
    }
    if (group.size() > 1)
      text = fmt::format("{} x {}", group.size(), is_chain ? "(" + text + ")" : text);
    const bool holds_pus =
        !group.front()->children.empty() && group.front()->children[0].type == "PU";
    if (is_pu)
      text = "PU " + pu_text(group);
    else if (holds_pus)
      text += ": " + pus_below(group);
    add_wrapped(lines_, std::string(2 * depth, ' '), text, width_, hang);
    if (!holds_pus)
      draw_below(group, depth + 1);
  }

  static bool has_only_child(const Object& object) {
    return object.children.size() == 1 && object.memory.empty() && object.children[0].type != "PU";
  }

  [[nodiscard]] std::string pus_below(const Group& group) const {
    Group pus;
    affinity::CpuSet cpus;
    for (const Object* object : group) {
      for (const auto& child : object->children)
        pus.push_back(&child);
      cpus = cpus | object->cpus;
    }
    if (group.size() == 1 || collapse_ == Collapse::none)
      return "PU " + pu_text(pus);
    std::string text = fmt::format("{} PUs, CPUs {}", pus.size(), cpus.list());
    const auto outside = cpus - topology_.allowed();
    const auto masked = (cpus & topology_.allowed()) - topology_.affinity();
    if (!outside.empty())
      text += " [cgroup " + outside.list() + "]";
    return masked.empty() ? text : text + " [affinity " + masked.list() + "]";
  }

  // "L#0(P#0) L#1(P#4)[affinity]".
  [[nodiscard]] std::string pu_text(const Group& pus) const {
    std::vector<std::string> labels;
    for (const Object* pu : pus)
      labels.push_back(numbers_of({pu}) + mark(topology_, static_cast<unsigned>(pu->os)));
    return join(labels, " ");
  }

  static constexpr unsigned hang = 4;

  const Topology& topology_;
  unsigned width_;
  Collapse collapse_;
  std::vector<std::string> lines_;
};

}  // namespace

std::string size_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> units = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  auto amount = static_cast<double>(bytes);
  while (amount >= 1024 && unit + 1 < units.size()) {
    amount /= 1024;
    ++unit;
  }
  const auto whole = static_cast<std::uint64_t>(amount);
  if (static_cast<double>(whole) == amount)
    return fmt::format("{} {}", whole, units[unit]);
  return fmt::format("{:.1f} {}", amount, units[unit]);
}

void add_wrapped(std::vector<std::string>& lines, const std::string& head, const std::string& text,
                 unsigned width, unsigned hang) {
  constexpr std::size_t narrowest = 20;
  const std::size_t indent = head.size() + hang;
  if (head.size() + display_width(text) <= width) {
    lines.push_back(head + text);
    return;
  }
  const std::size_t room = width > indent + narrowest ? width - indent : narrowest;
  std::string before = head;
  for (const auto& part : wrap(text, room)) {
    lines.push_back(before + part);
    before.assign(indent, ' ');
  }
}

std::vector<std::string> topology_tree(const Topology& topology, unsigned width) {
  const Object root = affinity::object_tree(topology);
  for (const auto collapse : {Collapse::none, Collapse::inside_caches}) {
    auto lines = Tree(topology, width, collapse).draw(root);
    if (lines.size() <= most_lines)
      return lines;
  }
  return Tree(topology, width, Collapse::everything).draw(root);
}

}  // namespace schedlab::cli
