#pragma once
// Compiled once for a library and taken by all its files: saves a third of a full build. Not a
// way to include less: each file names what it uses, which -Db_pch=false shows.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>
