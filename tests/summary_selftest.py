"""Tests .ci/summary.py on made-up test logs: what ran is counted, and no skip goes unseen."""

import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / '.ci'))
import summary  # noqa: E402

BOOST_SKIP = 'test_a.cc(7): Test case "b" is skipped because precondition failed: needs 4 CPUs\n'
UNITTEST_SKIP = 'test_c (__main__.A.test_c) ... skipped \'only root may chroot\'\n'


def test(result, name='schedlab:unit / a', stdout='', stderr=''):
    return {'name': name, 'result': result, 'stdout': stdout, 'stderr': stderr}


def report(tests, expected=''):
    """The numbers and the text of one run."""
    with tempfile.TemporaryDirectory() as folder:
        if tests:
            (Path(folder) / 'meson-logs').mkdir()
            log = Path(folder) / 'meson-logs' / 'testlog.json'
            log.write_text('\n'.join(json.dumps(one) for one in tests))
        with contextlib.redirect_stdout(io.StringIO()) as text:
            total, failed = summary.report('plain', folder, list(summary.rules(expected)))
        return dict(total), '\n'.join([text.getvalue(), *failed])


class Summary(unittest.TestCase):
    def test_what_passed_and_failed_is_counted(self):
        total, _ = report([test('OK'), test('FAIL'), test('TIMEOUT'), test('ERROR')])
        self.assertEqual(total, {'passed': 1, 'failed': 3})

    def test_what_a_failed_test_printed_last_is_shown(self):
        output = '\n'.join([*map(str, range(50)), 'a.cc(1): Leaving test case "b"', ''])
        _, text = report([test('FAIL', stdout=output, stderr='the end'), test('OK', stdout='fine')])
        shown = text.split('FAILED unit/a (FAIL)\n')[1].split('\n')
        self.assertEqual(shown, [*map(str, range(11, 50)), 'the end'])

    def test_a_reason_is_told_once_with_all_who_gave_it(self):
        again = BOOST_SKIP.replace('"b"', '"c"')
        _, text = report([test('OK', stdout=BOOST_SKIP + again)], '*: needs 4 CPUs\n')
        self.assertIn('\nskip: needs 4 CPUs: plain/unit/a/b, plain/unit/a/c\n', text)

    def test_a_run_without_tests_is_a_failure(self):
        self.assertEqual(report([])[0], {'failed': 1})

    def test_a_skip_that_is_not_expected_is_a_failure_with_its_reason(self):
        total, text = report([test('SKIP', stderr='schedlab: skipped: one NUMA node\n')])
        self.assertEqual(total, {'failed': 1})
        self.assertIn('UNEXPECTED SKIP: one NUMA node: plain/unit/a\n', text)

    def test_an_expected_skip_is_counted_and_told(self):
        total, text = report([test('SKIP', stderr='schedlab: skipped: one NUMA node\n')],
                             '# why\n*/unit/a: one NUMA node\n')
        self.assertEqual(total, {'skipped': 1})
        self.assertIn('skip: one NUMA node: plain/unit/a\n', text)

    def test_another_reason_at_an_expected_place_is_a_failure(self):
        total, _ = report([test('SKIP', stderr='skipped: no io_uring\n')], '*/unit/a: one NUMA*\n')
        self.assertEqual(total, {'failed': 1})

    def test_a_case_skipped_inside_a_passing_program_is_seen(self):
        for output, case in ({'stdout': BOOST_SKIP}, 'b'), ({'stderr': UNITTEST_SKIP}, 'test_c'):
            with self.subTest(case=case):
                total, text = report([test('OK', **output)])
                self.assertEqual(total, {'failed': 1})
                self.assertIn(f': plain/unit/a/{case}\n', text)
                total, _ = report([test('OK', **output)], f'plain/unit/a/{case}: *\n')
                self.assertEqual(total, {'passed': 1})


if __name__ == '__main__':
    unittest.main()
