"""Tests tidy.py: a clean tree has no finding, and each rule finds what is planted for it."""

import sys
import tempfile
import unittest
from pathlib import Path

import tidy

LAB = '// {0}: what does it cost?\n//\n// Method   Two.\n// Reading  Three.\n// Traps    Four.\n'

CLEAN = {
    'lab/base/fd.hh': '#pragma once\nnamespace a {\nclass Fd {\n};\n}  // namespace a\n',
    'lab/meson.build': "lab_names = [\n  'clock',\n]\n",
    'lab/labs/clock.cc': LAB.format('clock'),
    'docs/labs/clock.md': '# clock\n',
    'tests/test_base_fd.cc': '#include "lab/base/fd.hh"\n',
    'tests/meson.build': "unit_tests = {'base_fd': {}}\n",
}


def function(lines):
    return 'void f() {\n' + '  g();\n' * (lines - 2) + '}\n'


# What each rule must find: path and text.
OFFENCES = {
    'columns': [('iouring/a.cc', '//' + 'x' * 99 + '\n')],
    'file_length': [('iouring/a.cc', '// line\n' * 501)],
    'spaces': [
        ('iouring/a.cc', 'int a; \n'),
        ('docs/a.md', 'a\tb\n'),
        ('README.md', 'no newline'),
    ],
    'function_length': [
        ('iouring/a.cc', function(71)),
        ('iouring/a.cc', '#include <vector>\nnamespace a::b {\nnamespace {\n' + function(71)),
        ('iouring/a.cc', 'template <typename T = int>\nclass A : public B<T> {\n' + function(71)),
        ('iouring/a.cc', 'struct A {\n  bool operator==(A) {\n' + 'g();\n' * 71 + '}\n};\n'),
        ('iouring/a.cc', 'A::A(int a)\n    : b_{a}, c_(a) {\n' + 'g();\n' * 71 + '}\n'),
        ('tests/test_base_fd.cc', 'BOOST_AUTO_TEST_CASE(a) {\n' + 'g();\n' * 71 + '}\n'),
        ('tests/a.py', 'def f():\n' + '    pass\n' * 71),
        ('tests/a.sh', 'set -euo pipefail\nf() {\n' + '  true\n' * 71 + '}\n'),
    ],
    'include_direction': [
        ('lab/base/a.cc', '#include "affinity/pin.hh"\n'),
        ('iouring/a.cc', '#include "affinity/pin.hh"\n'),
        ('affinity/a.cc', '#include "lab/harness/lab.hh"\n'),
        ('procs/a.cc', '#include "iouring/ring.hh"\n'),
        ('lab/harness/a.cc', '#include "lab/labs/clock.hh"\n'),
        ('lab/labs/clock.cc', LAB.format('clock') + '#include "lab/labs/null.hh"\n'),
        ('lab/report/a.cc', '#include "procs/thread.hh"\n'),
        ('lab/cli/a.cc', '#include "tests/support.hh"\n'),
        ('iouring/a.cc', '#include "ring.hh"\n'),
    ],
    'heavy_headers': [
        ('affinity/a.hh', '#pragma once\n#include <hwloc.h>\n'),
        ('procs/a.cc', '#include <hwloc/glibc-sched.h>\n'),
        ('lab/harness/a.cc', '#include <CLI/CLI.hpp>\n'),
        ('lab/harness/a.hh', '#pragma once\n#include <nlohmann/json.hpp>\n'),
    ],
    'banned_calls': [
        ('iouring/a.cc', 'int a = atoi(b);\n'),
        ('iouring/a.cc', 'long a = std::strtol(b, 0, 10);\n'),
        ('iouring/a.cc', 'int a = rand();\n'),
        ('iouring/a.cc', 'auto a = std::thread::hardware_concurrency();\n'),
        ('iouring/a.cc', 'usleep(1);\n'),
        ('iouring/a.cc', 'std::cout << std::endl;\n'),
        ('affinity/a.cc', 'cpu_set_t set;\n'),
        ('lab/base/a.cc', 'gettimeofday(&a, nullptr);\n'),
        ('lab/cli/a.cc', 'std::system("true");\n'),
        ('lab/cli/a.cc', 'f(NULL);\n'),
        ('lab/cli/a.cc', 'std::format("{}", 1);\n'),
        ('lab/cli/a.hh', '#pragma once\nusing namespace std;\n'),
        ('lab/cli/a.cc', '#define SQUARE(x) ((x) * (x))\n'),
        ('procs/a.cc', 'std::fprintf(stderr, "no");\n'),
        ('meson.build', "add_project_arguments('-march=native')\n"),
    ],
    'header_guard': [('iouring/a.hh', 'struct A;\n')],
    'traces': [
        ('docs/a.md', 'Built in /' + 'work/main.\n'),
        ('docs/a.json', '"/' + 'root/out"\n'),
        ('iouring/a.cc', '// see /home/jane/notes\n'),
        ('docs/a.md', 'An ' + 'agent wrote this.\n'),
        ('docs/a.md', 'Written by Cl' + 'aude.\n'),
    ],
    'open_ends': [('iouring/a.cc', '// TO' + 'DO: the rest\n'), ('docs/a.md', 'FIX' + 'ME\n')],
    'shell_options': [
        ('tests/a.sh', '#!/bin/sh\nset -e\n'),
        ('.ci/run', '#!/usr/bin/env bash\ntrue\n'),
    ],
    'lab_essay': [
        ('lab/labs/clock.cc', '// A clock.\n'),
        ('lab/labs/clock.cc', LAB.format('clock').replace('Traps', 'Notes')),
    ],
    'orphan_labs': [
        ('lab/labs/null.cc', LAB.format('null')),
        ('lab/meson.build', "lab_names = [\n  'clock', 'null',\n]\n"),
        ('docs/labs/null.md', '# null\n'),
        ('lab/meson.build', "lab_names = [\n]\n"),
    ],
    'lab_pages': [
        ('lab/labs/clock.cc', LAB.format('clock') +
         'constexpr MetricInfo metrics[] = {\n    {.name = "resting", .unit = "ns"},\n};\n'),
        ('lab/labs/clock.cc', LAB.format('clock') +
         'constexpr ClaimInfo claims[] = {\n    {.id = "C1"},\n};\n'),
    ],
    'orphan_tests': [('tests/test_base_clock.cc', 'int a;\n')],
    'links': [
        ('docs/a.md', '[b](b.md)\n'),
        ('docs/a.md', '[there](labs/clock.md#nowhere)\n'),
        ('docs/a.md', '[here](#nowhere)\n'),
    ],
    'one_definition': [
        ('lab/base/a.hh', '#pragma once\nnamespace a {\nstruct Fd final : B {\n};\n}\n'),
        ('lab/base/a.cc', 'namespace a {\nenum class Fd : int {\n};\n}\n'),
    ],
}

# What looks like an offence and is none.
INNOCENT = [
    ('iouring/a.cc', '//' + 'x' * 98 + '\n'),
    ('iouring/a.cc', function(70)),
    ('iouring/a.cc', 'namespace a {\n' + function(60) + function(60) + '}\n'),
    ('iouring/a.cc', 'constexpr int table[] = {\n' + '  1,\n' * 100 + '};\n'),
    ('iouring/a.cc', "int a = 1'000;  // atoi(a) and 'usleep(1)'\nconst char* b = \"rand()\";\n"),
    ('iouring/a.cc', '// Sends a User-Agent, as `nproc` in /usr/work/ does.\n'),
    ('iouring/a.cc', 'const char* a = R"(a " atoi(b) )";\nint c = generator.rand();\n'),
    ('iouring/example/main.cc', '#include <cstdio>\nint main() {\n  std::puts("hello");\n}\n'),
    ('lab/labs/clock.cc', LAB.format('clock') + '#include "lab/apparatus/work.hh"\n'),
    ('docs/a.md', '[a](labs/clock.md#clock) [b](https://example.org/b) [c](#a-b)\n\n# A, b\n'),
    ('README.md', 'x' * 300 + '\n'),
    ('lab/base/a.cc', 'namespace a {\nnamespace {\nclass Fd {\n};\n}  // namespace\n}\n'),
    ('lab/base/a.cc', 'namespace a {\nclass Fd;\nstruct Fd::Part {\n};\n}  // namespace a\n'
     'class Fd {\n};\n'),
]


def findings_of(files):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            (Path(root) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(root) / path).write_text(text)
        return list(tidy.findings(tidy.Tree(root)))


class Tidy(unittest.TestCase):
    def test_a_clean_tree_has_no_finding(self):
        self.assertEqual(findings_of(CLEAN), [])

    def test_each_rule_finds_what_is_planted_for_it_and_no_other_rule_does(self):
        for rule, offences in OFFENCES.items():
            for path, text in offences:
                with self.subTest(rule=rule, path=path, text=text[-80:]):
                    found = findings_of(CLEAN | {path: text})
                    self.assertEqual({one[0] for one in found}, {rule})

    def test_each_rule_has_an_offence(self):
        rules = {rule.__name__ for rule in tidy.FILE_RULES + tidy.TREE_RULES}
        self.assertEqual(rules, set(OFFENCES))

    def test_what_only_looks_like_an_offence_is_let_through(self):
        for path, text in INNOCENT:
            with self.subTest(path=path, text=text[-80:]):
                self.assertEqual(findings_of(CLEAN | {path: text}), [])

    def test_a_finding_names_the_line(self):
        found = findings_of(CLEAN | {'iouring/a.cc': 'int a;\n/* b\n */ int c = atoi(d);\n'})
        self.assertEqual([one[:3] for one in found], [('banned_calls', 'iouring/a.cc', 3)])


if __name__ == '__main__':
    sys.exit(unittest.main())
