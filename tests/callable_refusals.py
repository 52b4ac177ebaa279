"""What a callable may not be is refused by the compiler, which says why.

usage: callable_refusals.py SOURCE_ROOT COMPILER...
"""
import subprocess
import sys

head = '''#include "procs/callable.hh"
using namespace schedlab::procs;
int twice(int x) { return 2 * x; }
'''

# What stands in main, and what the compiler must say; None: it must accept it.
programs = (
    ('callable<int(int), twice>();', None),
    ('callable<int(int), [](int x) { return x; }>();', None),
    ('callable<int(int)>([](int x) { return x; });', None),
    ('int y = 3; callable<int(int)>([y](int x) { return x + y; });',
     'a callable may capture nothing'),
    ('int y = 3; auto f = [y](int x) { return x + y; }; callable<int(int), f>();',
     'CapturesNothing'),
    ('callable<int(long*), twice>();', 'a callable needs the signature'),
)


def main():
    root, *compiler = sys.argv[1:]
    wrong = 0
    for body, words in programs:
        command = [*compiler, '-std=c++20', '-fsyntax-only', '-I', root, '-x', 'c++', '-']
        done = subprocess.run(command, input=head + 'int main() { ' + body + ' }\n',
                              capture_output=True, text=True, check=False)
        right = done.returncode == 0 if words is None else (
            done.returncode != 0 and words in done.stderr)
        if not right:
            wrong += 1
            print(f'{body}\n  expected: {words or "no error"}\n{done.stderr}')
    return 1 if wrong else 0


sys.exit(main())
