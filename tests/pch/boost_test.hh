#pragma once
// As lab/base/pch/std.hh, for the unit tests.
#include "lab/base/pch/std.hh"

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
