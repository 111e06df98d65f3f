"""A planted predictor of any task with one place for each symbol: a rule that sees the symbols before."""

import numpy as np


class Stepwise:
    """Answers by `step(columns, shown, k)`, which may look at the symbols shown before position k; in forward order."""

    autoregressive, order, trained_positions = True, "forward", None

    def __init__(self, task, step):
        self.task, self.step = task, step

    def forced(self, columns, answers):
        return np.stack([self.step(columns, answers, k) for k in range(1, answers.shape[1] + 1)], axis=1)

    def free(self, columns):
        return self.continued(columns, np.zeros_like(self.task.answers(columns)), 0)

    def continued(self, columns, answers, symbols):
        found = np.array(answers)
        for k in range(1, found.shape[1] + 1):
            found[:, k - 1] = np.where(k > symbols, self.step(columns, found, k), found[:, k - 1])
        return found
