#include "affinity/location.hh"

#include "affinity/read_tree.hh"
#include "affinity/reasons.hh"
#include "lab/base/error.hh"
#include "lab/base/text.hh"

#include <algorithm>
#include <cctype>
#include <hwloc.h>

namespace schedlab::affinity {

namespace {

struct TypeName {
  std::string_view name;
  hwloc_obj_type_t type;
};

// The first name of a type is the one shown.
constexpr TypeName type_names[] = {{"package", HWLOC_OBJ_PACKAGE},
                                   {"socket", HWLOC_OBJ_PACKAGE},
                                   {"die", HWLOC_OBJ_DIE},
                                   {"numa", HWLOC_OBJ_NUMANODE},
                                   {"numanode", HWLOC_OBJ_NUMANODE},
                                   {"node", HWLOC_OBJ_NUMANODE},
                                   {"group", HWLOC_OBJ_GROUP},
                                   {"l5", HWLOC_OBJ_L5CACHE},
                                   {"l4", HWLOC_OBJ_L4CACHE},
                                   {"l3", HWLOC_OBJ_L3CACHE},
                                   {"l3cache", HWLOC_OBJ_L3CACHE},
                                   {"l2", HWLOC_OBJ_L2CACHE},
                                   {"l2cache", HWLOC_OBJ_L2CACHE},
                                   {"l1", HWLOC_OBJ_L1CACHE},
                                   {"l1d", HWLOC_OBJ_L1CACHE},
                                   {"core", HWLOC_OBJ_CORE},
                                   {"pu", HWLOC_OBJ_PU},
                                   {"machine", HWLOC_OBJ_MACHINE}};

using Objects = std::vector<hwloc_obj_t>;

// All objects of a type in logical order, also where groups stand at several depths.
Objects objects_of(const Topology& topology, hwloc_obj_type_t type) {
  Objects objects;
  const auto add_level = [&](int depth) {
    for (hwloc_obj_t object = nullptr;
         (object = hwloc_get_next_obj_by_depth(topology.hwloc(), depth, object));)
      objects.push_back(object);
  };
  if (type == HWLOC_OBJ_NUMANODE)
    add_level(HWLOC_TYPE_DEPTH_NUMANODE);
  else if (type != HWLOC_OBJ_GROUP)
    objects = objects_in_tree(topology.hwloc(), type);
  else
    for (int depth = 0; depth < hwloc_topology_get_depth(topology.hwloc()); ++depth)
      if (hwloc_get_depth_type(topology.hwloc(), depth) == type)
        add_level(depth);
  if (objects.empty() && type == HWLOC_OBJ_CORE)
    return objects_of(topology, HWLOC_OBJ_PU);
  return objects;
}

// The CPUs of an object. hwloc gives a memory-only node those of the object it hangs from.
const hwloc_bitmap_s* cpus_of(hwloc_obj_t object, const Topology& topology) {
  return object->type == HWLOC_OBJ_NUMANODE ? topology.nodes()[object->logical_index].cpus.hwloc()
                                            : object->cpuset;
}

Objects objects_within(const Topology& topology, hwloc_obj_t parent, hwloc_obj_type_t type) {
  Objects objects = objects_of(topology, type);
  if (parent->parent)  // not the whole machine
    std::erase_if(objects, [&](hwloc_obj_t object) {
      const hwloc_bitmap_s* cpus = cpus_of(object, topology);
      return hwloc_bitmap_iszero(cpus) || !hwloc_bitmap_isincluded(cpus, cpus_of(parent, topology));
    });
  return objects;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

const TypeName* find_type(std::string_view word) {
  const auto found = std::find_if(std::begin(type_names), std::end(type_names),
                                  [&](const auto& entry) { return entry.name == word; });
  return found == std::end(type_names) ? nullptr : found;
}

[[noreturn]] void no_such(std::string_view location, std::string_view what,
                          const Topology& topology, std::string_view type = {}) {
  throw BadInput(std::string(location) + ": " + std::string(what) + "; this machine has " +
                 existing(topology, type));
}

// Which of `count` objects a range takes.
struct Range {
  bool by_number = true;
  bool exists = true;
  std::vector<std::size_t> indexes;
};

std::optional<std::size_t> index_from(std::string_view text) {
  const auto number = to_number(text);
  if (!number || *number < 0 || text.starts_with('-'))
    return std::nullopt;
  return static_cast<std::size_t>(*number);
}

Range every(std::size_t first, std::size_t count, std::size_t step) {
  Range range{false, true, {}};
  for (std::size_t i = first; i < count; i += step)
    range.indexes.push_back(i);
  return range;
}

// Nothing if the text is no range.
std::optional<Range> parse_range(std::string_view text, std::size_t count) {
  if (text == "all")
    return every(0, count, 1);
  if (text == "even" || text == "odd")
    return every(text == "odd", count, 2);
  const auto mark = text.find_first_of("-:");
  const auto first = index_from(text.substr(0, mark));
  if (!first)
    return std::nullopt;
  std::size_t length = 1;
  if (mark != std::string_view::npos) {
    const auto tail = text.substr(mark + 1);
    const bool open = tail.empty() && text[mark] == '-';
    const auto second = open ? std::optional<std::size_t>(count - 1) : index_from(tail);
    if (!second || (text[mark] == '-' && *first < count && *second < *first))
      return std::nullopt;
    length = text[mark] == ':' ? *second : *second - *first + 1;
  }
  const bool wraps = mark != std::string_view::npos && text[mark] == ':';
  Range range;
  range.exists = *first < count && length >= 1 && length <= (wraps ? count : count - *first);
  for (std::size_t i = 0; range.exists && i < length; ++i)
    range.indexes.push_back((*first + i) % count);
  return range;
}

struct Selection {
  Objects objects;
  bool by_number = true;
};

// One step of a chain, such as "core:0-1", within each object of the step before.
Selection descend(const Objects& parents, const std::string& step, std::string_view location,
                  const Topology& topology) {
  const auto colon = step.find(':');
  const std::string word = step.substr(0, colon);
  const TypeName* type = find_type(word);
  if (!type)
    no_such(location, "no such kind of object as '" + word + "'", topology);
  if (colon == std::string::npos)
    no_such(location, "'" + word + "' needs a number, as in " + word + ":0", topology, word);
  Selection selection;
  for (const hwloc_obj_t parent : parents) {
    const Objects within = objects_within(topology, parent, type->type);
    const auto range = parse_range(std::string_view(step).substr(colon + 1), within.size());
    if (!range)
      no_such(location,
              "'" + step.substr(colon + 1) + "' is no range such as 3, 0-2, odd, even or all",
              topology, word);
    if (!range->exists || range->indexes.empty())
      no_such(location, "no such object", topology, word);
    selection.by_number = range->by_number;
    for (const auto index : range->indexes)
      selection.objects.push_back(within[index]);
  }
  return selection;
}

std::vector<unsigned> in_tree_order(const CpuSet& cpus, const Topology& topology) {
  std::vector<unsigned> ordered;
  for (const auto& cpu : topology.cpus())
    if (cpus.contains(cpu.os))
      ordered.push_back(cpu.os);
  return ordered;
}

void append_new(std::vector<unsigned>& to, const std::vector<unsigned>& cpus) {
  for (const unsigned cpu : cpus)
    if (std::find(to.begin(), to.end(), cpu) == to.end())
      to.push_back(cpu);
}

// Explicit numbers must all be good: to leave one out would place two tasks on one CPU unasked.
void require_usable(std::string_view text, const CpuSet& cpus, const Topology& topology) {
  if (cpus.empty())
    no_such(text, "names no CPU", topology, "pu");
  if (const CpuSet off = cpus & topology.offline(); !off.empty())
    throw BadInput(std::string(text) + ": " + cpus_text(off) + (off.count() == 1 ? " is" : " are") +
                   " offline");
  if (const CpuSet unknown = cpus - topology.online(); !unknown.empty())
    throw BadInput(std::string(text) + ": no " + cpus_text(unknown) + "; this machine has " +
                   cpus_text(topology.online()));
  if (const CpuSet refused = cpus - topology.usable(); !refused.empty())
    throw BadInput(std::string(text) + ": " + cpus_text(refused) +
                   " cannot be used: " + restriction(topology));
}

// The usable CPUs of one object of the last step.
std::vector<unsigned> object_cpus(std::string_view location, hwloc_obj_t object, bool by_number,
                                  const Topology& topology) {
  const CpuSet cpus = CpuSet::from_hwloc(cpus_of(object, topology));
  if (by_number && cpus.empty())
    throw BadInput(std::string(location) + ": has no CPU of its own");
  const CpuSet usable = cpus & topology.usable();
  if (by_number && usable.empty())
    throw BadInput(std::string(location) + ": " + cpus_text(cpus) +
                   " cannot be used: " + restriction(topology));
  return in_tree_order(usable, topology);
}

}  // namespace

std::vector<unsigned> location_cpus(std::string_view location, const Topology& topology) {
  Selection selection{{hwloc_get_root_obj(topology.hwloc())}, true};
  for (const auto step : split(location, '.'))
    selection = descend(selection.objects, lower(step), location, topology);
  std::vector<unsigned> cpus;
  for (const hwloc_obj_t object : selection.objects)
    append_new(cpus, object_cpus(location, object, selection.by_number, topology));
  if (cpus.empty())
    throw BadInput(std::string(location) +
                   ": none of its CPUs can be used: " + restriction(topology));
  return cpus;
}

bool is_mask(std::string_view text) {
  if (text.find("0x") == std::string_view::npos)
    return false;
  const auto words = split(text, ',');
  // A longer word would overflow unseen.
  const std::size_t longest = std::string_view("0x").size() + (words.size() == 1 ? 16 : 8);
  return std::all_of(words.begin(), words.end(), [&](std::string_view word) {
    return word.empty() || (word.starts_with("0x") && word.size() > 2 && word.size() <= longest &&
                            std::all_of(word.begin() + 2, word.end(),
                                        [](unsigned char c) { return std::isxdigit(c) != 0; }));
  });
}

std::vector<unsigned> mask_cpus(std::string_view mask, const Topology& topology) {
  const std::unique_ptr<hwloc_bitmap_s, decltype(&hwloc_bitmap_free)> bitmap(hwloc_bitmap_alloc(),
                                                                             hwloc_bitmap_free);
  if (hwloc_bitmap_sscanf(bitmap.get(), std::string(mask).c_str()) < 0)
    throw BadInput(std::string(mask) + ": is not a CPU mask such as 0xff or 0x1,,0x3");
  const CpuSet cpus = CpuSet::from_hwloc(bitmap.get());
  require_usable(mask, cpus, topology);
  return in_tree_order(cpus, topology);
}

std::vector<unsigned> list_cpus(std::string_view list, const Topology& topology) {
  require_usable("cpus:" + std::string(list), CpuSet::from_list(list), topology);
  std::vector<unsigned> cpus;
  for (const auto item : split(list, ','))
    append_new(cpus, CpuSet::from_list(item).cpus());
  return cpus;
}

std::string existing(const Topology& topology, std::string_view first) {
  const TypeName* front = find_type(first);
  std::vector<std::string> items;
  for (const auto type : {HWLOC_OBJ_PACKAGE, HWLOC_OBJ_DIE, HWLOC_OBJ_NUMANODE, HWLOC_OBJ_L3CACHE,
                          HWLOC_OBJ_L2CACHE, HWLOC_OBJ_CORE, HWLOC_OBJ_PU}) {
    const std::size_t count = objects_of(topology, type).size();
    if (count == 0)
      continue;
    const auto entry = std::find_if(std::begin(type_names), std::end(type_names),
                                    [&](const auto& named) { return named.type == type; });
    std::string item = std::string(entry->name) + ":0";
    if (count > 1)
      item += "-" + std::to_string(count - 1);
    items.insert(front && front->type == type ? items.begin() : items.end(), std::move(item));
  }
  return join(items, ", ");
}

}  // namespace schedlab::affinity
