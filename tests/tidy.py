"""Holds the rules of the house that can be held by a test. Use: tidy.py ROOT [--format]

Prints path:line: rule: what is wrong, and ends with 1, if a file of the tree under ROOT breaks one.
With --format it asks clang-format instead (77 where that is not installed).
"""

import ast
import fnmatch
import re
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path

MAX_COLUMNS = 100
MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 500

BASE = ['lab/base']
LIBRARIES = ['affinity', 'iouring', 'procs']
# Which folders the files of a folder may include from, besides their own. The order is that of
# subdir() in the root meson.build.
LAYERS = {
    'lab/base': [],
    'affinity': BASE,
    'iouring': BASE,
    'procs': BASE + ['affinity'],
    'lab/harness': BASE + ['affinity'],
    'lab/apparatus': BASE + LIBRARIES + ['lab/harness'],
    'lab/labs': BASE + LIBRARIES + ['lab/harness', 'lab/apparatus'],
    'lab/report': BASE + ['lab/harness'],
    'lab/cli': BASE + LIBRARIES + ['lab/harness', 'lab/apparatus', 'lab/labs', 'lab/report'],
}

# Headers that cost seconds to compile, or belong to one file, and where they may stand.
HEAVY_HEADERS = [
    (r'hwloc(\.h|/.*)', ['affinity/*.cc', 'tests/*.cc']),
    (r'numa(if)?\.h', ['affinity/*.cc', 'tests/*.cc']),
    (r'CLI/.*', ['lab/cli/*']),
    (r'boost/beast.*', ['iouring/*.cc']),
    (r'turbojpeg\.h', ['lab/apparatus/images.cc']),
    (r'nlohmann/json\.hpp', ['*.cc', 'tests/*']),
    (r'boost/test/.*', ['tests/*']),
]

LIBRARY_SOURCES = ['lab/base/*', 'affinity/*', 'iouring/*', 'procs/*']
# What is not called, where, and what is called in its place.
BANNED_CALLS = [
    (r'\b(atoi|atol|atoll|atof)\s*\(', ['*'], 'to_number() of lab/base/text.hh'),
    (r'\bstrto(l|ul|ll|ull)\s*\(', ['*'], 'to_number() of lab/base/text.hh'),
    (r'(?<![\w.>])s?rand\s*\(', ['*'], 'lab/base/random.hh'),
    (r'\bhardware_concurrency\b', ['*'], 'affinity::Topology::usable()'),
    (r'\bcpu_set_t\b', ['*'], 'affinity::CpuSet'),
    (r'\busleep\s*\(', ['*'], 'clock_nanosleep()'),
    (r'\bgettimeofday\s*\(', ['*'], 'lab/base/clock.hh'),
    (r'(?<![\w.>])system\s*\(', ['*'], 'Child::exec() of lab/base/child.hh'),
    (r'\bstd::endl\b', ['*'], r"'\n'"),
    (r'\bNULL\b', ['*'], 'nullptr'),
    (r'\bstd::(format|expected)\b', ['*'], 'fmt, or an exception: Debian 12 has neither'),
    (r'\busing\s+namespace\b', ['*.hh'], 'qualified names in headers'),
    (r'^\s*#\s*define\s+\w+\(', ['*'], 'a function or a template'),
    (r'\b([fd]?printf|f?puts|fmt::print|std::cout|std::cerr)\b', LIBRARY_SOURCES,
     'a result or an exception: libraries never print'),
]

# What tells how, where or by whom a file was made.
TRACES = re.compile(
    r'(?<![\w.])/(work|root)/|(?<![\w.])/home/\w+|\bshared/(design|claims|research)'
    r'|\b(claude|anthropic|chatgpt|copilot|llm)\b|(?<!user.)\bagents?\b', re.IGNORECASE)
OPEN_ENDS = re.compile(r'\b(TODO|FIXME|XXX)\b')
# The files that have to spell the words they look for.
SPELL_THEM = ['tests/tidy.py', 'tests/tidy_selftest.py']

CODE = ['*.cc', '*.hh', '*.cc.in', '*.hh.in', '*.py', '*.sh', '*meson.build', '.ci/run']

TOKENS = re.compile(
    r'(?P<number>\b\d[\w.\']*)|(?P<comment>//[^\n]*|/\*.*?\*/)'
    r'|R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)"'
    r'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def blank(match):
    """A comment or literal without its content, on as many lines."""
    if match['number']:
        return match[0]
    return ('' if match['comment'] else '""') + '\n' * match[0].count('\n')


class Source:
    """One file: its path from the root and its text."""

    def __init__(self, path, text, executable=False):
        self.path = path
        self.text = text
        self.executable = executable
        self.lines = text.split('\n')

    def is_one_of(self, patterns):
        return any(fnmatch.fnmatchcase(self.path, pattern) for pattern in patterns)

    @property
    def is_cxx(self):
        return self.is_one_of(['*.cc', '*.hh'])

    @property
    def is_shell(self):
        return self.path.endswith('.sh') or re.match(r'#!.*\b(ba)?sh\b', self.text) is not None

    @cached_property
    def code(self):
        """The text of a C++ file without comments and literals, line for line."""
        return TOKENS.sub(blank, self.text)

    def includes(self):
        """Lines, opening marks and names of the #include directives."""
        for number, line in enumerate(self.lines, 1):
            found = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
            if found:
                yield number, found[1], found[2]

    def search(self, pattern, text=None):
        """Lines and matches of a pattern."""
        for number, line in enumerate((text or self.text).split('\n'), 1):
            for found in re.finditer(pattern, line):
                yield number, found


class Tree:
    """The text files of a checkout that are or could be committed."""

    def __init__(self, root):
        self.root = Path(root)
        self.sources = []
        for path in self.paths():
            full = self.root / path
            try:
                text = full.read_bytes().decode()
            except (UnicodeDecodeError, IsADirectoryError, FileNotFoundError):
                continue
            if '\0' not in text:
                self.sources.append(Source(path, text, bool(full.stat().st_mode & 0o111)))

    def paths(self):
        git = ['git', '-C', str(self.root), 'ls-files', '-z', '-co', '--exclude-standard']
        if (self.root / '.git').exists() and shutil.which('git'):
            listed = subprocess.run(git, capture_output=True, text=True, check=False)
            if listed.returncode == 0:
                return sorted(set(filter(None, listed.stdout.split('\0'))))
        every = (path.relative_to(self.root) for path in self.root.rglob('*') if path.is_file())
        return sorted(str(path) for path in every
                      if not re.match(r'\.git/|build[^/]*/|.*__pycache__', str(path)))

    def has(self, path):
        return any(source.path == path for source in self.sources)

    def read(self, path):
        return next((source.text for source in self.sources if source.path == path), '')

    def stems(self, pattern):
        """The file names under a pattern, without folder and suffix."""
        return {Path(s.path).stem: s.path for s in self.sources if s.is_one_of([pattern])}


# Rules of one file: each yields line and message.

def columns(source):
    if source.is_one_of(CODE):
        for number, line in enumerate(source.lines, 1):
            if len(line) > MAX_COLUMNS:
                yield number, f'{len(line)} columns; at most {MAX_COLUMNS}'


def file_length(source):
    count = source.text.count('\n')
    if source.is_one_of(CODE) and count > MAX_FILE_LINES:
        yield count, f'{count} lines; at most {MAX_FILE_LINES}: a file has one subject'


def spaces(source):
    for number, line in enumerate(source.lines, 1):
        if line != line.rstrip():
            yield number, 'space at the end of the line'
        if '\t' in line:
            yield number, 'a tab'
    if source.text and not source.text.endswith('\n'):
        yield len(source.lines), 'no newline at the end of the file'


def function_length(source):
    functions = []
    if source.is_cxx:
        functions = cxx_functions(source.code)
    elif source.path.endswith('.py'):
        functions = ((node.lineno, node.end_lineno) for node in ast.walk(ast.parse(source.text))
                     if isinstance(node, ast.FunctionDef))
    elif source.is_shell:
        functions = shell_functions(source.lines)
    for first, last in functions:
        length = last - first + 1
        if length > MAX_FUNCTION_LINES:
            yield first, f'a function of {length} lines; at most {MAX_FUNCTION_LINES}'


def shell_functions(lines):
    first = None
    for number, line in enumerate(lines, 1):
        if re.match(r'\w+\(\) \{$', line):
            first = number
        elif line == '}' and first:
            yield first, number
            first = None


def cxx_functions(code):
    """First and last lines of function bodies: blocks right inside a namespace or class whose head
    has parentheses and gives no initial value."""
    code = re.sub(r'^[ \t]*#.*$', lambda line: ' ' * len(line[0]), code, flags=re.MULTILINE)
    nesting = []  # of each open brace: where its head begins, and whether that is a function's
    head_start = 0
    opaque = None  # the depth of the block whose inside is not looked at
    for brace in re.finditer(r'[{};]', code):
        at = brace.start()
        if brace[0] == '{':
            head = code[head_start:at]
            if opaque is None and not is_scope(head):
                opaque = len(nesting)
            first = head_start + len(head) - len(head.lstrip())
            nesting.append((first, is_function(head)))
        elif brace[0] == '}' and nesting:
            first, counted = nesting.pop()
            if opaque == len(nesting):
                opaque = None
                if counted:
                    yield code.count('\n', 0, first) + 1, code.count('\n', 0, at) + 1
        if opaque is None:
            head_start = at + 1


def is_scope(head):
    head = re.sub(r'^\s*template\s*<[^{]*>\s*(?=class|struct|union)', '', head)
    begins = re.match(r'\s*(typedef\s+|inline\s+)?(namespace|class|struct|union|enum|extern)\b',
                      head)
    gives = re.search(r'\)[\s\w]*$', head)  # struct stat status_of(int fd) {
    return begins is not None and gives is None


def is_function(head):
    outside = re.sub(r'operator\s*[^\s(]+|template\s*<[^>]*>', ' ', head)
    while (shorter := re.sub(r'\([^()]*\)', ' @ ', outside)) != outside:
        outside = shorter
    return '@' in outside and '=' not in outside


def include_direction(source):
    folder = next((name for name in LAYERS if source.path.startswith(name + '/')), None)
    if not source.is_cxx or folder is None:
        return
    for number, mark, name in source.includes():
        other = next((layer for layer in LAYERS if name.startswith(layer + '/')), None)
        if mark == '"' and '/' not in name:
            yield number, f'"{name}" is not root-relative'
        elif other == folder == 'lab/labs':
            yield number, 'a lab includes no other lab; share it through lab/apparatus'
        elif name.startswith('tests/') or other not in [None, folder, *LAYERS[folder]]:
            yield number, f'{folder} may not use {other or "tests"}'


def heavy_headers(source):
    if source.is_cxx:
        for number, _, name in source.includes():
            for header, places in HEAVY_HEADERS:
                if re.fullmatch(header, name) and not source.is_one_of(places):
                    yield number, f'<{name}> only in {", ".join(places)}'


def banned_calls(source):
    if source.is_cxx and '/example/' not in source.path:
        for pattern, places, instead in BANNED_CALLS:
            if source.is_one_of(places):
                for number, found in source.search(pattern, source.code):
                    yield number, f'{found[0].strip()}: use {instead}'
    elif source.path.endswith('meson.build'):
        for number, _ in source.search('-march=native|-ffast-math'):
            yield number, 'numbers of such a build hold on one machine only'


def header_guard(source):
    if source.path.endswith('.hh') and not source.text.startswith('#pragma once\n'):
        yield 1, 'a header begins with #pragma once'


def traces(source):
    if not source.is_one_of(SPELL_THEM):
        for number, found in source.search(TRACES):
            yield number, f'"{found[0]}" tells how or where this was made'


def open_ends(source):
    if not source.is_one_of(SPELL_THEM):
        for number, found in source.search(OPEN_ENDS):
            yield number, f'{found[0]}: finish it, or leave it out'


def shell_options(source):
    if source.is_shell and not re.search(r'^set -euo pipefail$', source.text, re.MULTILINE):
        yield 1, 'a shell script sets -euo pipefail'


def lab_essay(source):
    if source.is_one_of(['lab/labs/*.cc']):
        name = Path(source.path).stem
        if not source.text.startswith(f'// {name}: '):
            yield 1, f'a lab opens with "// {name}: " and its question'
        for part in ['Method', 'Reading', 'Traps']:
            if not re.search(rf'^// {part} ', source.text, re.MULTILINE):
                yield 1, f'the opening comment of a lab has a part "{part}"'


# Rules of the whole tree: each yields path, line and message.

def orphan_labs(tree):
    listed = re.search(r'lab_names = \[(.*?)\]', tree.read('lab/meson.build'), re.DOTALL)
    names = set(re.findall(r"'(\w+)'", listed[1])) if listed else set()
    labs = tree.stems('lab/labs/*.cc')
    pages = tree.stems('docs/labs/*.md')
    for name in sorted(set(labs) - names):
        yield labs[name], 1, 'not in lab_names of lab/meson.build'
    for name in sorted(names - set(labs)):
        yield 'lab/meson.build', 1, f'lab_names has {name}, but there is no lab/labs/{name}.cc'
    for name in sorted(set(labs) - set(pages)):
        yield labs[name], 1, f'has no page docs/labs/{name}.md'
    for name in sorted(set(pages) - set(labs)):
        yield pages[name], 1, f'a page without a lab lab/labs/{name}.cc'


def lab_pages(tree):
    """What a lab declares, its page names: parameters, metrics and claims."""
    pages = tree.stems('docs/labs/*.md')
    for name, path in tree.stems('lab/labs/*.cc').items():
        page = tree.read(pages[name]) if name in pages else ''
        text = tree.read(path)
        for table in re.finditer(r'^constexpr (?:MetricInfo|Param|ClaimInfo) \w+\[\] = {(.*?)^};',
                                 text, re.DOTALL | re.MULTILINE):
            for row in re.finditer(r'\.(?:name|id) = "([^"]+)"', table[1]):
                if page and not re.search(rf'\b{re.escape(row[1])}\b', page):
                    line = text.count('\n', 0, table.start(1) + row.start()) + 1
                    yield path, line, f'{pages[name]} says nothing of {row[1]}'


def orphan_tests(tree):
    rows = tree.read('tests/meson.build')
    for stem, path in tree.stems('tests/test_*.cc').items():
        if f"'{stem.removeprefix('test_')}'" not in rows:
            yield path, 1, 'has no row in tests/meson.build'


def heading_anchors(text):
    """The names by which a Markdown file's headings can be linked to."""
    text = re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r'^#+ +(.*?) *$', text, re.MULTILINE):
        yield re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


def links(tree):
    for source in tree.sources:
        if not source.path.endswith('.md'):
            continue
        for number, found in source.search(r'\]\(<?([^)\s>]+)'):
            target, _, anchor = found[1].partition('#')
            if re.match(r'\w+:', target):
                continue
            path = (tree.root / source.path).parent / target if target else tree.root / source.path
            if not path.exists():
                yield source.path, number, f'a link to {target}, which does not exist'
            elif anchor and path.suffix == '.md' and \
                    anchor not in heading_anchors(path.read_text()):
                yield source.path, number, f'a link to {found[1]}, which has no such heading'


def types_of(source):
    """Line and full name of each type that other files could define once more."""
    scopes = []
    for number, line in enumerate(source.text.split('\n'), 1):
        if scope := re.match(r'namespace ?([\w:]*) ?\{$', line):
            scopes.append(scope[1] or source.path)  # without a name: of this file alone
        elif line.startswith('}  // namespace') and scopes:
            scopes.pop()
        elif found := re.match(r'(?:struct|class|union|enum(?: class)?) (?:\w+\(.*?\) )?'
                               r'(\w+)(?: final)?(?: : .*)? \{', line):
            yield number, '::'.join([*scopes, found[1]])


def one_definition(tree):
    first = {}
    for source in tree.sources:
        if source.is_cxx:
            for number, name in types_of(source):
                place = first.setdefault(name, f'{source.path}:{number}')
                if not place.startswith(f'{source.path}:'):
                    yield source.path, number, f'{name} is defined at {place} too'


FILE_RULES = [columns, file_length, spaces, function_length, include_direction, heavy_headers,
              banned_calls, header_guard, traces, open_ends, shell_options, lab_essay]
TREE_RULES = [orphan_labs, lab_pages, orphan_tests, links, one_definition]


def findings(tree):
    for source in tree.sources:
        for rule in FILE_RULES:
            for line, message in rule(source):
                yield rule.__name__, source.path, line, message
    for rule in TREE_RULES:
        for path, line, message in rule(tree):
            yield rule.__name__, path, line, message


def check_format(tree):
    program = shutil.which('clang-format-14')
    if program is None:
        print('skipped: clang-format-14 is not installed')
        return 77
    files = [str(tree.root / source.path) for source in tree.sources if source.is_cxx]
    return subprocess.run([program, '--dry-run', '-Werror', *files], check=False).returncode


def main(arguments):
    tree = Tree(arguments[0] if arguments else Path(__file__).resolve().parent.parent)
    if arguments[1:] == ['--format']:
        return check_format(tree)
    found = list(findings(tree))
    for rule, path, line, message in found:
        print(f'{path}:{line}: {rule}: {message}')
    print(f'{len(tree.sources)} files, {len(found)} findings')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
