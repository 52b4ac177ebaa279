#pragma once
// As lab/base/pch/std.hh, for those that also write text.
#include "lab/base/pch/std.hh"

#include <fmt/format.h>
