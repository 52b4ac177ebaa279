"""Tests what the comparisons with peers share: which verdict an interval gets, and its making."""

import unittest

import pairs


class Verdicts(unittest.TestCase):
    def test_an_interval_within_the_tolerance_is_met_one_outside_missed_else_nobody_can_tell(self):
        for judge, met, missed, unclear in (
                (lambda low, high: pairs.at_least((1, low, high)), (0.97, 2), (0.5, 0.96),
                 (0.96, 0.99)),
                (lambda low, high: pairs.at_least((1, low, high), 1.3), (1.27, 1.3), (1.2, 1.25),
                 (1.2, 1.29)),
                (lambda low, high: pairs.at_most((1, low, high), 1.0), (0.1, 1.03), (1.04, 2),
                 (1.0, 1.04)),
                (lambda low, high: pairs.within((1, low, high), 0.1), (0.91, 1.09), (0.8, 0.89),
                 (0.89, 1.0))):
            self.assertEqual(judge(*met), 'met')
            self.assertEqual(judge(*missed), 'missed')
            self.assertEqual(judge(*unclear), 'cannot tell here')
            self.assertEqual(judge(None, None), 'cannot tell here')


class Pairs(unittest.TestCase):
    def test_both_take_turns_and_the_peer_is_compared_with_itself(self):
        order = []

        def runs(who, number):
            def run():
                order.append(who)
                return {'time': number}
            return run
        column = pairs.compare_columns(runs('ours', 3.0), runs('peer', 2.0), 20)['time']
        self.assertEqual(order[:6], ['ours', 'peer', 'peer', 'peer', 'peer', 'ours'])
        self.assertEqual((column.ours, column.peer), (3.0, 2.0))
        for seen, expected in ((column.ratio, 1.5), (column.same, 1.0)):
            for number in seen:
                self.assertAlmostEqual(number, expected)

    def test_an_interval_of_twenty_is_that_of_order_statistics(self):
        self.assertEqual(pairs.rank(20), 6)  # the sixth and the fifteenth cover it by 95.9 %
        self.assertEqual(pairs.rank(5), 0)


if __name__ == '__main__':
    unittest.main()
